//! A check that all backends open their stores in the same way.

/// Asserts, when it is compiled, that a backend's `Config` has the shape that all have: `from_url`
/// and a `prefix`; `build`, which gives the store, and `open`, which gives the
/// [`Kv`](kv_core::Kv); it can be cloned, shown, and sent to another thread; with the feature
/// `serde` it is read and written alike.
///
/// ```
/// kv_testsuite::opens_as_all_do!(kv_memory::Config, kv_memory::Memory);
/// ```
#[macro_export]
macro_rules! opens_as_all_do {
    ($config:ty, $store:ty) => {
        const _: () = {
            fn from_url(url: ::kv_core::StoreUrl) -> ::kv_core::Result<$config> {
                <$config>::from_url(url)
            }
            fn prefix(config: $config) -> $config {
                config.prefix("app").prefix(String::from("app"))
            }
            async fn build(config: $config) -> ::kv_core::Result<$store> {
                config.build().await
            }
            async fn open(config: $config) -> ::kv_core::Result<::kv_core::Kv> {
                config.open().await
            }
            fn is_plain<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
            #[cfg(feature = "serde")]
            fn is_read_and_written<T: ::serde::Serialize + ::serde::de::DeserializeOwned>() {}

            _ = (from_url, prefix, build, open, is_plain::<$config>);
            #[cfg(feature = "serde")]
            {
                _ = is_read_and_written::<$config>;
            }
        };
    };
}
