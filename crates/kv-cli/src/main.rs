//! The program `kv`: looks at, changes, watches and locks what is in a key/value store.

#[cfg(not(unix))]
compile_error!("the program kv needs Unix, for its signals and process groups");

mod cli;
mod commands;
mod exit;
mod file_turn;
mod guarded;
mod lines;
mod log;
mod out;
mod stores;
mod template;
mod text;
mod transfer;
mod ui;
mod view;

use clap::CommandFactory;
use cli::{Cli, Command, OnStore};
use commands::{
    about, adopt, config, delete, doctor, edit, elect, get, lease, list, lock, locks, put, render,
    run as runs, semaphore, transfer as moves, tree, txn, watch,
};
use exit::{Failure, Run};
use kv_core::Kv;
use out::{Out, complain, note};
use std::process::ExitCode;
use stores::Stores;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    if let Some(code) = guarded::called() {
        return code;
    }
    let cli = Cli::read();
    let json = cli.json;
    log::listen(cli.shown_of_the_log());
    let mut out = Out::new(json);
    let ended = start(cli, &mut out);
    // What was printed before a failure is the result all the same.
    let flushed = out.flush();
    match ended.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let has_acted = out.acts().any();
            complain(&failure, has_acted, json);
            let exit = failure.exit();
            if has_acted { exit.behind_an_act() } else { exit }.into()
        }
    }
}

fn start(cli: Cli, out: &mut Out) -> Run {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::here(format!("the program cannot start: {e}")))?;
    let ended = runtime.block_on(run(cli, out));
    // A read of standard input that nobody waits for any more is no reason to stay.
    runtime.shutdown_background();
    ended
}

async fn run(cli: Cli, out: &mut Out) -> Run {
    let stores = Stores::new(cli.config, cli.timeout);
    match cli.command {
        Command::OnStore(mut command) => {
            // An empty variable names none.
            let chosen = cli.store.as_deref().filter(|store| !store.is_empty());
            let opened = stores.open_in_turn(chosen, command.turn()).await;
            let kv = match (opened, &mut command) {
                // A store that cannot be opened is what a doctor is asked about.
                (Err(Failure::Store(why)), OnStore::Doctor(_)) => return doctor::not_opened(why, out),
                (Err(why), OnStore::Render(args)) => {
                    let open = || stores.open(chosen);
                    match Box::pin(render::without_store(args, why, open, out)).await? {
                        Ok(kv) => kv,
                        Err(exit) => return Ok(exit),
                    }
                }
                (opened, _) => opened?,
            };
            let ended = Box::pin(on(command, &kv, out)).await;
            // Closing gives back what the command has not. Its failure is no other result: what the
            // command did is done.
            if let Err(e) = kv.close().await
                && ended.is_ok()
            {
                note(&format!("the store could not be closed: {e}"));
            }
            ended
        }
        Command::Copy(args) => moves::copy(args, &stores, out).await,
        Command::Sync(args) => moves::sync(args, &stores, out).await,
        Command::Check(args) => moves::check(args, &stores, out).await,
        Command::Completions(args) => about::completions(&args, Cli::command(), out),
        Command::Man(args) => about::man(args, Cli::command(), out),
    }
}

async fn on(command: OnStore, kv: &Kv, out: &mut Out) -> Run {
    match command {
        OnStore::Get(args) => get::get(args, kv, out).await,
        OnStore::Put(args) => put::put(args, kv, out).await,
        OnStore::Delete(args) => delete::delete(args, kv, out).await,
        OnStore::Exists(args) => get::exists(args, kv, out).await,
        OnStore::Ls(args) => list::ls(args, kv, out).await,
        OnStore::Tree(args) => tree::tree(args, kv, out).await,
        OnStore::Cat(args) => list::cat(args, kv, out).await,
        OnStore::Edit(args) => edit::edit(args, kv, out).await,
        OnStore::Watch(args) => watch::watch(args, kv, out).await,
        OnStore::Wait(args) => watch::wait(args, kv, out).await,
        OnStore::Cas(args) => put::cas(args, kv, out).await,
        OnStore::Txn(args) => txn::txn(args, kv, out).await,
        OnStore::Lock(args) => lock::lock(args, kv).await,
        OnStore::Elect(args) => elect::elect(args, kv, out).await,
        OnStore::Semaphore(args) => semaphore::semaphore(args, kv).await,
        OnStore::Lease(args) => lease::lease(args, kv, out).await,
        OnStore::Locks(args) => locks::locks(args, kv, out).await,
        OnStore::Break(args) => locks::break_lock(args, kv, out).await,
        OnStore::Holder(args) => lock::holder(args, kv, out).await,
        OnStore::Run(args) => runs::run(args, kv).await,
        OnStore::Render(args) => render::render(args, kv, out).await,
        OnStore::Adopt(args) => adopt::adopt(args, kv, out).await,
        OnStore::Config(args) => config::config(args, kv, out).await,
        OnStore::Export(args) => moves::export(args, kv, out).await,
        OnStore::Import(args) => moves::import(args, kv, out).await,
        OnStore::Apply(args) => moves::apply(args, kv, out).await,
        OnStore::Diff(args) => moves::diff(args, kv, out).await,
        OnStore::Doctor(args) => doctor::doctor(args, kv, out).await,
        OnStore::Ui(args) => ui::ui(args, kv, out).await,
        OnStore::Health(_) => about::health(kv, out).await,
        OnStore::Capabilities => about::capabilities(kv, out),
    }
}
