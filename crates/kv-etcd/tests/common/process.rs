//! A process that ends with the test, however the test ends.

use super::*;

/// Starts the server, passes on signals that it reads, and kills it when its input ends, which it does with our death.
const KEEPER: &str = r#"
"$@" </dev/null &
pid=$!
echo started
while read -r signal; do
    kill -"$signal" "$pid"
    if [ "$signal" = TERM ]; then break; fi
done
[ "$signal" = TERM ] || kill -KILL "$pid" 2>/dev/null
wait "$pid"
"#;

pub struct Process {
    keeper: Child,
    orders: Option<ChildStdin>,
}

impl Process {
    pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> Result<Self, Failure> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(arguments)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let orders = keeper.stdin.take();
        let mut started = String::new();
        if let Some(out) = keeper.stdout.take() {
            BufReader::new(out).read_line(&mut started)?;
        }
        Ok(Self { keeper, orders })
    }

    pub fn signal(&mut self, name: &str) {
        let orders = self.orders.as_mut().expect("orders are taken only at the end");
        writeln!(orders, "{name}").expect("the keeper lives as long as this");
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        self.signal("CONT");
        self.signal("TERM");
        self.keeper.wait().expect("a child of ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        // The keeper kills what it keeps, and waits for it.
        let _ = self.keeper.wait();
    }
}
