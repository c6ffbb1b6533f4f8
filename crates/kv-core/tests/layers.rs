//! Layers: their order, what they share, and how a handle shows them.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, ErrorKind, Key, Kv, Result, Written,
    driver::{
        Acquired, Cursor, Expect, Layer, ListOptions, LockOptions, Page, PutOptions, ReadOptions, Store,
        Target, WatchOptions, WatchStream, WriteOptions, async_trait,
    },
};
use kv_memory::Memory;
use std::{
    mem,
    sync::{Arc, Mutex},
};

type Log = Arc<Mutex<Vec<String>>>;

/// A layer that notes what goes through it.
struct Noting(&'static str, Log);

impl Layer for Noting {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let mut capabilities = inner.as_ref().capabilities().clone();
        capabilities.native_values = false;
        Arc::new(Noted { name: self.0, log: self.1.clone(), inner, capabilities })
    }
}

#[derive(Debug)]
struct Noted {
    name: &'static str,
    log: Log,
    inner: Arc<dyn Store>,
    capabilities: Capabilities,
}

impl Noted {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

#[async_trait]
impl Store for Noted {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.note("get");
        self.inner.as_ref().get(key, options).await
    }
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.inner.as_ref().put(key, value, expect, options).await
    }
    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.inner.as_ref().delete(key, expect, options).await
    }
    async fn list(
        &self,
        directory: &Directory,
        from: Option<&Cursor>,
        options: &ListOptions,
    ) -> Result<Page> {
        self.inner.as_ref().list(directory, from, options).await
    }
    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.inner.as_ref().watch(target, options).await
    }
    async fn lock(&self, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
        self.inner.as_ref().lock(name, options).await
    }
    fn describe(&self) -> String {
        self.name.to_owned()
    }
    fn inner(&self) -> Option<&dyn Store> {
        Some(self.inner.as_ref())
    }
    async fn close(&self) -> Result<()> {
        self.note("close");
        self.inner.as_ref().close().await
    }
}

fn layered() -> (Kv, Kv, Log) {
    let (kv, log) = (Kv::new(Arc::new(Memory::new())), Log::default());
    let low = Noting("low", log.clone());
    (kv.clone(), kv.layer(&low).layer(Noting("high", log.clone())), log)
}

fn noted(log: &Log) -> Vec<String> {
    mem::take(&mut *log.lock().unwrap())
}

#[tokio::test]
async fn the_last_one_is_the_outermost() {
    let (plain, kv, log) = layered();
    kv.put("a", "1").await.unwrap();
    kv.get("a").await.unwrap();
    assert_eq!(noted(&log), ["get high", "get low"]);
    kv.clone().within("d").unwrap().get("a").await.unwrap();
    assert_eq!(noted(&log), ["get high", "get low"], "a part has the same layers");
    assert_eq!(plain.get("a").await.unwrap().unwrap().text(), Some("1"));
    assert_eq!(noted(&log), [""; 0], "a clone from before has none");
    assert!(!kv.capabilities().native_values && plain.capabilities().native_values);
    assert!(kv.store().find::<Memory>().is_some() && kv.store().find::<Noted>().is_some());
}

#[tokio::test]
async fn a_handle_shows_its_layers() {
    let (plain, kv, _) = layered();
    let plain = format!("{plain:?}");
    assert!(plain.starts_with("Kv { store: Memory {"), "{plain}");
    let shown = format!("{kv:?}");
    assert_eq!(shown, plain.replacen("store: ", "store: high > low > ", 1));
}

#[tokio::test]
async fn all_are_closed_by_any() {
    for closes_the_plain in [false, true] {
        let (plain, kv, log) = layered();
        let guards =
            [plain.new_lock("a").acquire().await.unwrap(), kv.new_lock("b").acquire().await.unwrap()];
        drop(kv.clone().layer(Noting("gone", log.clone())));
        let closing = if closes_the_plain { &plain } else { &kv };
        closing.close().await.unwrap();
        assert!(guards.iter().all(|guard| !guard.is_held()));
        assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(plain.get("a").await.unwrap_err().kind(), ErrorKind::Closed);
        let noted = noted(&log);
        assert_eq!(noted[..2], ["close high", "close low"], "from the outermost on");
        assert!(!noted.contains(&"close gone".to_owned()), "{noted:?}");
    }
}
