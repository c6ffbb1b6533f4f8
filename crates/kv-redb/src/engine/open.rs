//! Opens a file that this process has not open yet: reads and checks it, and starts its writer.

use super::{
    common::Engine,
    file::{self, Identity, Opening},
    format,
    options::Options,
    places::{self, Client},
    writer::{End, Writer},
};
use crate::error;
use kv_core::{Error, ErrorKind, Result};
use std::{path::PathBuf, sync::Arc};

/// Opens a client of the file of these options. The clients of one file share its engine.
pub(crate) async fn open(options: Options) -> Result<Client> {
    places::open(options.path.clone(), move |path| start(path, &options)).await
}

/// Opens the file and starts its writer. Blocks.
fn start(path: PathBuf, options: &Options) -> Result<Arc<Engine>> {
    let (database, stored) = error::caught(&path, || {
        let database = file::open(&path, options.cache_size, Opening::First { verify: options.verify })?;
        let stored = format::load(&database).map_err(|refused| refused.error(&path))?;
        Ok((database, stored))
    })?;
    let file = Identity::of_open(&path)?;
    let (engine, queue, state) = Engine::new(path, file, database, stored, options);
    let writer = Writer {
        engine: engine.clone(),
        jobs: queue,
        state,
        doubt: None,
        pause: None,
        retired: Vec::new(),
        full: false,
        _end: End(engine.clone()),
    };
    let no_thread = |e| {
        Error::new(ErrorKind::Other, "no thread for the writer; raise the limit of threads").with_cause(e)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(no_thread)?;
    let thread = std::thread::Builder::new().name("kv-redb".into());
    thread.spawn(move || runtime.block_on(writer.run())).map_err(no_thread)?;
    Ok(engine)
}
