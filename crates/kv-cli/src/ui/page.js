"use strict";
// The page of `kv ui`. Everything that comes from the store is shown as text, never as HTML.

const $ = id => document.getElementById(id);
const SAMPLES = 120, FEED = 200, ROWS = 500, LOCKS_PAUSE = 3000, LOCKS_SHARE = 10;
let store = {}, shown = null, isEditing = false;

async function ask(path, parameters) {
  return answer(await fetch(path + (parameters ? "?" + new URLSearchParams(parameters) : "")));
}

async function change(what, object) {
  const headers = { "content-type": "application/json" };
  return answer(await fetch(what, { method: "POST", headers, body: JSON.stringify(object) }));
}

async function answer(response) {
  const object = await response.json();
  if (!response.ok) throw new Error(object.message);
  return object;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function note(text) { $("note").textContent = text || ""; }
const told = error => note(error.message);

// The tree: a list for each directory that is open.

const open = new Map(); // the directory, to its list

async function fill(directory, list) {
  open.set(directory, list);
  const items = [];
  let more = true, after;
  while (more && items.length < 5000) {
    const page = await ask("list", after === undefined ? { directory } : { directory, after });
    items.push(...page.items);
    more = page.more;
    const last = items[items.length - 1];
    after = last && (last.key ?? last.directory);
  }
  const before = new Map([...list.children].map(item => [item.dataset.name, item]));
  list.replaceChildren(...items.map(item => before.get(item.key ?? item.directory) ?? row(item, directory)));
  if (more) list.append(element("li", "… and more", "quiet"));
}

function row(item, directory) {
  const name = item.key ?? item.directory, made = element("li");
  made.dataset.name = name;
  const button = element("button", name.slice(directory.length), item.directory ? "directory" : "");
  made.append(button);
  button.onclick = item.key ? () => show(name).catch(told) : () => toggle(made, name).catch(told);
  return made;
}

async function toggle(item, directory) {
  const list = item.querySelector("ul");
  if (list) {
    list.remove();
    for (const known of [...open.keys()]) if (known.startsWith(directory)) open.delete(known);
    return;
  }
  const made = element("ul");
  item.append(made);
  await fill(directory, made);
}

const stale = new Set();

// Many changes at once are one look at each directory.
function refresh(key) {
  for (const directory of open.keys()) if (key.startsWith(directory)) stale.add(directory);
  if (stale.size && !refresh.waits) refresh.waits = setTimeout(async () => {
    refresh.waits = null;
    const directories = [...stale];
    stale.clear();
    for (const directory of directories) {
      const list = open.get(directory);
      if (list) await fill(directory, list).catch(told);
    }
  }, 200);
}

// The value.

async function show(key) {
  const entry = await ask("key", { key });
  shown = entry;
  edit(false);
  note();
  $("name").textContent = key;
  const ends = lineEnds(entry.value ?? "");
  $("version").textContent = "version " + entry.version + (entry.base64 !== undefined ? ", not text: shown as base64"
    : ends === null ? ", with line ends that a browser's field does not keep: `kv edit` does" : "");
  $("value").textContent = entry.base64 ?? pretty(entry.value);
  $("edit").hidden = entry.base64 !== undefined || ends === null;
  for (const button of document.querySelectorAll(".chosen")) button.classList.remove("chosen");
  for (const item of document.querySelectorAll("#tree li")) {
    if (item.dataset.name === key) item.firstChild.classList.add("chosen");
  }
}

// Returns the one kind of line ends that a text has; null if there are several, or one that a browser's field,
// which makes "\n" of all, cannot give back.
function lineEnds(text) {
  const kinds = new Set(text.match(/\r\n|\r|\n/g) ?? ["\n"]);
  return kinds.size === 1 && !kinds.has("\r") ? [...kinds][0] : null;
}

// Indents JSON without reading its numbers, which may be larger than the browser's.
function pretty(text) {
  try {
    if (typeof JSON.parse(text) !== "object") return text;
  } catch { return text; }
  let out = "", depth = 0, inString = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (inString) {
      out += c;
      if (c === "\\") out += text[++i];
      else if (c === '"') inString = false;
    } else if (c === '"') { inString = true; out += c; }
    else if (c === "{" || c === "[") {
      const rest = text.slice(i + 1).trimStart();
      if (rest[0] === "}" || rest[0] === "]") { out += c + rest[0]; i = text.length - rest.length; }
      else { depth++; out += c + line(); }
    } else if (c === "}" || c === "]") { depth--; out += line() + c; }
    else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}

function edit(is, isNew) {
  isEditing = is;
  $("form").hidden = !is;
  $("key").hidden = !(is && isNew);
  $("value").hidden = is;
  $("buttons").hidden = is || !shown || !store.writable;
  if (!is) return;
  note();
  $("text").value = isNew ? "" : shown.value;
  $("key").value = "";
  $(isNew ? "key" : "text").focus();
}

async function save() {
  const isNew = !$("key").hidden, key = isNew ? $("key").value : shown.key;
  const text = $("text").value, value = isNew ? text : text.replaceAll("\n", lineEnds(shown.value) ?? "\n");
  await change("put", { key, value, version: isNew ? null : shown.version });
  await show(key);
}

async function remove() {
  if (!shown || !confirm("Delete " + shown.key + "?")) return;
  await change("delete", { key: shown.key, version: shown.version });
  gone();
}

function gone() {
  shown = null;
  $("name").textContent = "No key is chosen";
  $("version").textContent = $("value").textContent = "";
  $("buttons").hidden = true;
}

// Locks.

let held = { locks: [], more: true }, took = 0; // the last answer, and its time

async function locks() {
  if (!store.locks) return void ($("nolocks").textContent = "This store cannot list locks.");
  const began = performance.now();
  const answer = held = await ask("locks").finally(() => { took = performance.now() - began; });
  $("nolocks").textContent = answer.locks.length ? (answer.more ? "… and more" : "") : "None is held.";
  $("locks").replaceChildren(...answer.locks.map(lock => {
    const row = element("tr"), isElection = lock.candidate !== undefined;
    const holder = isElection
      ? lock.candidate + (lock.leads ? " leads" + (lock.says ? ": " + lock.says : "") : " takes office")
      : lock.value ?? lock.base64;
    row.append(element("td", lock.name + (isElection ? " (election)" : "")), element("td", holder),
      element("td", lock.token), element("td", lock.waiters ?? "?"));
    const cell = element("td");
    if (store.writable) {
      const button = element("button", "Break");
      button.onclick = () => {
        if (!confirm("End the acquisition " + lock.token + " of " + lock.name + "?")) return;
        change("break", { name: lock.name, token: lock.token }).then(locks).catch(told);
      };
      cell.append(button);
    }
    row.append(cell);
    return row;
  }));
  draw();
}

// Asks for the locks again and again, as long as somebody may see them. On Redis the server goes through all its names
// for that: the pause behind an answer is many times as long as the answer took.
async function keepLocks() {
  if (!document.hidden) await locks().catch(told);
  setTimeout(keepLocks, Math.max(LOCKS_PAUSE, LOCKS_SHARE * took));
}

// Elections and services, by their keys, as the events tell of their records.

const elections = new Map(), services = new Map();
let areNewTerms = false;

function table(id, lines, none, cells) {
  const sorted = [...lines.values()].sort((a, b) => a.key < b.key ? -1 : 1), shown = sorted.slice(0, ROWS);
  $(id).replaceChildren(...shown.map(line => {
    const row = element("tr");
    row.append(...cells(line).map(text => element("td", text)));
    return row;
  }));
  $("no" + id).textContent = !store.watches ? "This store tells no changes, by which they are found."
    : sorted.length > ROWS ? "… and more" : sorted.length ? "" : none;
}

const says = line => line.value ?? line.base64 ?? "…";

// The record of a leader stays when it leads no more: it leads while the lock has the token of its term.
function leader(line) {
  const lock = held.locks.find(lock => lock.name === line.name);
  if (lock ? lock.token === line.term : held.more) return [line.candidate + (lock ? "" : "?"), line.term, says(line)];
  return ["nobody leads", "", ""];
}

function draw() {
  table("elections", elections, "None has had a leader.", line => [line.name, ...leader(line)]);
  table("services", services, "Nothing is registered.", line => {
    const at = line.key.lastIndexOf("/");
    return [line.key.slice(0, Math.max(at, 0)), line.key.slice(at + 1), says(line)];
  });
}

// Many records at once are drawn once, and asked for the locks once.
function drawSoon() {
  if (!drawSoon.waits) drawSoon.waits = setTimeout(() => {
    drawSoon.waits = null;
    if (areNewTerms && store.locks && !document.hidden) locks().catch(told); else draw();
    areNewTerms = false;
  }, Math.max(200, areNewTerms ? LOCKS_SHARE * took : 0));
}

function record(lines, line) {
  lines.set(line.key, line);
  areNewTerms ||= lines === elections;
  drawSoon();
}

function forget(key) {
  const was = elections.delete(key), were = services.delete(key);
  if (was || were) drawSoon();
}

// What happens.

const samples = [];

function latency(line) {
  samples.push(line.micros ?? null);
  if (samples.length > SAMPLES) samples.shift();
  const known = samples.filter(sample => sample !== null), sorted = [...known].sort((a, b) => a - b);
  const most = sorted[sorted.length - 1] || 1, ms = micros => (micros / 1000).toFixed(1) + " ms";
  $("line").setAttribute("points", samples.map((sample, i) =>
    (i * 240 / (SAMPLES - 1)).toFixed(1) + "," + (38 - (sample ?? 0) / most * 36).toFixed(1)).join(" "));
  $("latency").textContent = line.error ?? "a read took " + ms(line.micros) + ", median " + ms(sorted[sorted.length >> 1]);
}

function happened(line) {
  const item = element("li");
  item.append(element("span", new Date().toLocaleTimeString() + " ", "quiet"),
    element("span", line.event === "put" ? "put " : "gone ", line.event === "put" ? "put" : "gone"),
    element("span", line.key + (line.value === undefined ? "" : " = " + line.value)));
  $("feed").prepend(item);
  while ($("feed").children.length > FEED) $("feed").lastChild.remove();
  refresh(line.key);
  forget(line.key); // what is a record still comes anew, behind its change
  if (!shown || shown.key !== line.key || shown.version === line.version) return;
  if (isEditing) note("Somebody else has changed this key meanwhile: saving will be refused.");
  else if (line.event === "put") show(line.key).catch(told);
  else { gone(); note("The key is gone."); }
}

function listen() {
  const events = new EventSource("events");
  const on = (name, act) => events.addEventListener(name, event => act(JSON.parse(event.data)));
  on("synced", () => { $("link").textContent = "live"; for (const [d, list] of open) fill(d, list).catch(told); });
  // Whoever connects is told everything.
  events.onopen = () => { elections.clear(); services.clear(); drawSoon(); };
  on("change", happened);
  on("election", line => record(elections, line));
  on("instance", line => record(services, line));
  on("latency", latency);
  on("over", line => { $("link").textContent = "changes are not told any more: " + line.message; });
  events.onerror = () => { $("link").textContent = "kv does not answer; it may have been ended"; };
}

async function begin() {
  store = await ask("store");
  $("store").textContent = document.title = "kv on " + store.backend;
  $("mode").textContent = store.writable ? "writable" : "read-only";
  $("create").hidden = !store.writable;
  $("create").onclick = () => { gone(); edit(true, true); };
  $("edit").onclick = () => edit(true, false);
  $("cancel").onclick = () => edit(false);
  $("delete").onclick = () => remove().catch(told);
  $("form").onsubmit = event => { event.preventDefault(); save().catch(told); };
  await fill("", $("tree"));
  listen();
  await keepLocks();
}

begin().catch(told);
