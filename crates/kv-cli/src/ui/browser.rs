//! The page in a real browser. The test needs Chromium and its driver: `ci/browser` runs it.

use super::{Site, serve};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element, error::CmdError};
use hyper_util::client::legacy::connect::HttpConnector;
use kv_core::Kv;
use kv_recipes::{Election, Registered, Registration, Term};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The longest that the page takes to show something.
const SOON: Duration = Duration::from_secs(20);

/// The driver of the browser, in a group of processes with the browsers that it starts, and their
/// own folder.
struct Driver {
    child: Child,
    url: String,
    profile: TempDir,
}

impl Driver {
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into());
        let mut command = Command::new(&program);
        command.arg("--port=0").env("HOME", profile.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.process_group(0).spawn().unwrap_or_else(|e| panic!("{program} does not start: {e}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(
                line.strip_prefix("ChromeDriver was started successfully on port ")?
                    .trim_end_matches('.')
                    .to_owned(),
            )
        });
        let url = format!("http://127.0.0.1:{}", port.expect("the driver tells its port"));
        Self { child, url, profile }
    }

    /// Opens a window of this width.
    async fn window(&self, width: u32) -> Client {
        let arguments = [
            "--headless",
            "--no-sandbox", // it runs as root, too
            "--disable-gpu",
            "--disable-quic",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--force-device-scale-factor=1",
            &format!("--user-data-dir={}", self.profile.path().join(width.to_string()).display()),
        ];
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(options.as_object().unwrap().clone());
        let window = builder.connect(&self.url).await.unwrap();
        window.set_window_size(width, 800).await.unwrap();
        window
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }
}

/// Serves the page of a store, and returns its URL.
async fn open(kv: &Kv, is_writable: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = Site::new(kv.clone(), is_writable, &listener).unwrap();
    let url = site.url();
    tokio::spawn(serve(site, listener));
    url
}

/// Waits for the element that this XPath finds.
async fn seen(window: &Client, path: &str) -> Element {
    let found = window.wait().at_most(SOON).for_element(Locator::XPath(path)).await;
    match found {
        Ok(element) => element,
        Err(e) => panic!("{path} is not seen: {e}; the page: {}", window.source().await.unwrap()),
    }
}

async fn click(window: &Client, path: &str) {
    seen(window, path).await.click().await.unwrap();
}

/// Returns the text of the element of this id, as it is shown.
async fn text(window: &Client, id: &str) -> Result<String, CmdError> {
    window.find(Locator::Id(id)).await?.text().await
}

/// Types this text over the one that is edited, and saves it.
async fn save(window: &Client, value: &str) {
    let edited = window.find(Locator::Id("text")).await.unwrap();
    edited.clear().await.unwrap();
    edited.send_keys(value).await.unwrap();
    click(window, "//*[@id='form']/button[text()='Save']").await;
}

/// Writes a picture of the window into the folder that `KV_PICTURES` names, if it names one.
async fn picture(window: &Client, name: &str) {
    let picture = window.screenshot().await.unwrap();
    if let Some(folder) = env::var_os("KV_PICTURES") {
        fs::write(PathBuf::from(folder).join(format!("{name}.png")), picture).unwrap();
    }
}

/// Fills a store as a service would, with two instances of it, and leads an election in it.
async fn filled() -> (Kv, Term, [Registered; 2]) {
    let kv = kv_memory::open("memory://").await.unwrap();
    for (key, value) in [
        ("app/config/limits", r#"{"rate":250,"burst":1000,"paths":["/api","/login"]}"#),
        ("app/config/motd", "<b>hello</b><script>document.title='taken'</script>"),
        ("jobs/last", "2026-01-01"),
    ] {
        kv.put(key, value).await.unwrap();
    }
    let election = Election::new(&kv, "app/leader").candidate("web-1").value("10.0.0.7:80");
    let term = election.campaign().await.unwrap();
    let register = async |name: &str, address: &str| {
        let instance = json!({"address": address});
        Registration::new(&kv, format!("app/instances/{name}")).json(&instance).register().await.unwrap()
    };
    let instances = [register("web-1", "10.0.0.7:80").await, register("web-2", "10.0.0.8:80").await];
    (kv, term, instances)
}

#[tokio::test]
#[ignore = "it needs a browser: ci/browser runs it"]
async fn a_person_sees_the_store_and_changes_it_only_where_that_is_allowed() {
    let (kv, term, [one, _two]) = filled().await;
    let first = kv.new_lock("jobs/nightly").value("host-1").acquire().await.unwrap();
    let lock = kv.new_lock("jobs/nightly").value("host-2");
    let second = tokio::spawn(async move { lock.acquire().await });
    let driver = Driver::start();

    // Read-only: the tree, a value, the locks with their waiters, and a change as it happens.
    let window = driver.window(1280).await;
    window.goto(&open(&kv, false).await).await.unwrap();
    seen(&window, "//*[@id='link' and text()='live']").await;
    assert_eq!(text(&window, "store").await.unwrap(), "kv on memory");
    assert_eq!(text(&window, "mode").await.unwrap(), "read-only");
    click(&window, "//button[text()='app/']").await;
    click(&window, "//button[text()='config/']").await;
    click(&window, "//button[text()='motd']").await;
    seen(&window, "//pre[contains(., '<script>')]").await;
    assert_eq!(window.title().await.unwrap(), "kv on memory", "what the store has is shown as text");
    click(&window, "//button[text()='limits']").await;
    seen(&window, "//*[@id='name' and text()='app/config/limits']").await;
    let pretty =
        "{\n  \"rate\": 250,\n  \"burst\": 1000,\n  \"paths\": [\n    \"/api\",\n    \"/login\"\n  ]\n}";
    assert_eq!(text(&window, "value").await.unwrap(), pretty);
    for hidden in ["edit", "delete", "create"] {
        let button = window.find(Locator::Id(hidden)).await.unwrap();
        assert!(!button.is_displayed().await.unwrap(), "{hidden} is shown on a page that is read-only");
    }
    let waits = "//tbody[@id='locks']/tr[td[1]='jobs/nightly' and td[2]='host-1' and td[4]='1']";
    seen(&window, waits).await;
    seen(
        &window,
        "//tbody[@id='locks']/tr[td[1]='app/leader (election)' and contains(td[2], 'web-1 leads')]",
    )
    .await;
    let leads = "//tbody[@id='elections']/tr[td[1]='app/leader' and td[2]='web-1' and td[4]='10.0.0.7:80']";
    seen(&window, leads).await;
    let instance = |name: &str, address: &str| {
        let says = format!("td[2]='{name}' and contains(td[3], '{address}')");
        format!("//tbody[@id='services']/tr[td[1]='app/instances' and {says}]")
    };
    seen(&window, &instance("web-1", "10.0.0.7:80")).await;
    seen(&window, &instance("web-2", "10.0.0.8:80")).await;
    kv.put("app/config/color", "blue").await.unwrap();
    seen(&window, "//*[@id='feed']/li[contains(., 'put app/config/color = blue')]").await;
    seen(&window, "//button[text()='color']").await;
    seen(&window, "//*[@id='line' and contains(@points, ' ')]").await;
    picture(&window, "ui").await;
    // An instance that goes, and a leader that resigns, are gone from their tables.
    assert!(one.deregister().await.unwrap());
    seen(&window, &format!("//body[not({}) and {}]", &instance("web-1", ""), &instance("web-2", ""))).await;
    term.resign().await.unwrap();
    seen(&window, "//tbody[@id='elections']/tr[td[1]='app/leader' and td[2]='nobody leads']").await;
    click(&window, "//summary").await;
    seen(&window, "//*[@id='noleases' and contains(., 'Leases are not shown')]").await;
    // What a page that is read-only is asked by hand, it refuses.
    let asks = "return fetch('put', {method: 'POST', headers: {'content-type': 'application/json'}, \
                body: JSON.stringify({key: 'a', value: '1', version: null})}).then(answer => answer.status)";
    assert_eq!(window.execute(asks, Vec::new()).await.unwrap(), json!(403));
    assert!(!kv.exists("a").await.unwrap());
    window.close().await.unwrap();

    // Writable: an edit that comes late is refused, the next is made, and a lock is broken.
    let window = driver.window(1280).await;
    window.goto(&open(&kv, true).await).await.unwrap();
    seen(&window, "//*[@id='link' and text()='live']").await;
    click(&window, "//button[text()='jobs/']").await;
    click(&window, "//button[text()='last']").await;
    seen(&window, "//*[@id='value' and text()='2026-01-01']").await;
    click(&window, "//*[@id='edit']").await;
    kv.put("jobs/last", "2026-01-02").await.unwrap();
    seen(&window, "//*[@id='note' and contains(., 'saving will be refused')]").await;
    save(&window, "mine").await;
    seen(&window, "//*[@id='note' and contains(., 'version')]").await;
    picture(&window, "ui-refused").await;
    assert_eq!(kv.get("jobs/last").await.unwrap().unwrap().text(), Some("2026-01-02"));
    click(&window, "//*[@id='cancel']").await;
    click(&window, "//button[text()='last']").await;
    seen(&window, "//*[@id='value' and text()='2026-01-02']").await;
    click(&window, "//*[@id='edit']").await;
    save(&window, "mine").await;
    seen(&window, "//*[@id='value' and text()='mine']").await;
    assert_eq!(kv.get("jobs/last").await.unwrap().unwrap().text(), Some("mine"));

    click(&window, "//tbody[@id='locks']/tr[td[1]='jobs/nightly']//button").await;
    window.accept_alert().await.unwrap();
    seen(&window, "//tbody[@id='locks']/tr[td[1]='jobs/nightly' and td[2]='host-2' and td[4]='0']").await;
    first.lost().await;
    let second = second.await.unwrap().unwrap();
    assert!(second.is_held());
    window.close().await.unwrap();

    // A narrow window shows all of it in one column.
    let window = driver.window(480).await;
    window.goto(&open(&kv, false).await).await.unwrap();
    seen(&window, "//tbody[@id='locks']/tr[td[1]='jobs/nightly']").await;
    let wide = "return document.documentElement.scrollWidth - window.innerWidth";
    let beyond = window.execute(wide, Vec::new()).await.unwrap().as_f64().unwrap();
    assert!(beyond <= 0.0, "a person has to scroll {beyond} pixels aside");
    window.close().await.unwrap();
    drop(second);
}

#[tokio::test]
#[ignore = "it needs a browser: ci/browser runs it"]
async fn an_edit_keeps_the_line_ends_of_a_value() {
    let kv = kv_memory::open("memory://").await.unwrap();
    for (key, value) in [("dos", "x\r\ny\r\n"), ("mixed", "x\r\ny\n"), ("mac", "x\ry"), ("unix", "x\ny")] {
        kv.put(key, value).await.unwrap();
    }
    let driver = Driver::start();
    let window = driver.window(1280).await;
    window.goto(&open(&kv, true).await).await.unwrap();
    for (key, expected) in [("dos", "x\r\ny\r\nz"), ("unix", "x\nyz")] {
        click(&window, &format!("//button[text()='{key}']")).await;
        seen(&window, &format!("//*[@id='name' and text()='{key}']")).await;
        click(&window, "//*[@id='edit']").await;
        window.find(Locator::Id("text")).await.unwrap().send_keys("z").await.unwrap();
        click(&window, "//*[@id='form']/button[text()='Save']").await;
        seen(&window, "//*[@id='value' and contains(., 'z')]").await;
        assert_eq!(kv.get(key).await.unwrap().unwrap().text(), Some(expected), "{key}");
    }
    // A browser's field has one kind of line ends.
    for key in ["mixed", "mac"] {
        click(&window, &format!("//button[text()='{key}']")).await;
        seen(&window, &format!("//*[@id='name' and text()='{key}']")).await;
        seen(&window, "//*[@id='version' and contains(., 'line ends')]").await;
        assert!(!window.find(Locator::Id("edit")).await.unwrap().is_displayed().await.unwrap(), "{key}");
        assert!(window.find(Locator::Id("delete")).await.unwrap().is_displayed().await.unwrap(), "{key}");
    }
    window.close().await.unwrap();
}

#[tokio::test]
#[ignore = "it needs a browser: ci/browser runs it"]
async fn locks_are_asked_for_less_often_where_that_takes_long_and_not_for_a_page_that_nobody_sees() {
    let kv = kv_memory::open("memory://").await.unwrap();
    let driver = Driver::start();
    let window = driver.window(1280).await;
    window.goto(&open(&kv, false).await).await.unwrap();
    seen(&window, "//*[@id='nolocks' and text()='None is held.']").await;
    // An answer takes half a second, and the page notes when it asked.
    let slow = "window.asked = []; const ask = window.fetch; window.fetch = async (path, ...more) => { \
                if (path === 'locks') { asked.push(performance.now()); \
                await new Promise(done => setTimeout(done, 500)); } return ask(path, ...more); }";
    window.execute(slow, Vec::new()).await.unwrap();
    let number = async |script: &str| window.execute(script, Vec::new()).await.unwrap().as_f64().unwrap();
    let until = async |script: &str| {
        let told = async { while number(script).await == 0.0 {} };
        tokio::time::timeout(SOON, told).await.unwrap_or_else(|_| panic!("it does not come: {script}"));
    };
    until("return asked.length >= 2 ? 1 : 0").await;
    let between = number("return asked[1] - asked[0]").await;
    assert!(between > 5000.0, "{between} ms between two questions of which each takes 500 ms");
    let hide =
        "window.looked = 0; Object.defineProperty(document, 'hidden', { get() { looked++; return true; } })";
    window.execute(hide, Vec::new()).await.unwrap();
    until("return looked >= 2 ? 1 : 0").await;
    let asked = number("return asked.length").await;
    until("return looked >= 4 ? 1 : 0").await;
    assert_eq!(number("return asked.length").await, asked, "a page that is hidden asks for nothing");
    window.close().await.unwrap();
}
