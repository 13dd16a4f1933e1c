//! A headless browser, driven over the DevTools protocol.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

pub(crate) type Result<T> = std::result::Result<T, String>;

/// How long an answer may take: a browser that starts on a busy machine needs seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Finds the browser's program.
pub(crate) fn program() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.find(|place| place.is_file())
}

/// One browser with one page. Ends with its value.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    sent: u64,
    /// What the page reported meanwhile.
    events: Vec<Value>,
    // Last, so that the browser is gone before its folder.
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with an empty profile.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let profile = tempfile::tempdir().map_err(said("profile"))?;
        let mut child = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--window-size=1400,900",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it puts beside its profile goes with it.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(said("start"))?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let found = listening(BufReader::new(stderr)).and_then(|address| connect(&address));
        match found {
            Ok(socket) => Ok(Self {
                child,
                socket,
                session: None,
                sent: 0,
                events: Vec::new(),
                _profile: profile,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Opens an address in a page of its own, which later commands are for.
    pub(crate) fn open(&mut self, url: &str) -> Result<()> {
        self.session = None;
        let target = self.ask("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.ask("Target.attachToTarget", attach)?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.ask(&format!("{domain}.enable"), json!({}))?;
        }
        self.ask("Page.navigate", json!({"url": url}))?;
        self.until("document.documentElement?.dataset.ready === 'yes'")
    }

    /// Evaluates an expression, and what it promises.
    pub(crate) fn eval(&mut self, expression: &str) -> Result<Value> {
        let options =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", options)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(format!("{expression}: {details}")),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    /// Waits until an expression holds.
    pub(crate) fn until(&mut self, condition: &str) -> Result<()> {
        let wait = format!(
            "new Promise((done) => {{ const look = () => (({condition}) ? done(true) : setTimeout(look, 20)); look(); }})"
        );
        // A navigation meanwhile ends the page that was asked: ask the next one.
        for _ in 0..5 {
            match self.eval(&wait) {
                Err(error) if error.contains("context") => {}
                other => return other.map(drop),
            }
        }
        Err(format!("{condition}: the page went away"))
    }

    /// Clicks the middle of an element, as a hand would.
    pub(crate) fn click(&mut self, selector: &str) -> Result<()> {
        let place = format!(
            "(() => {{ const it = document.querySelector({selector:?}); if (!it) return null; it.scrollIntoView({{ block: 'nearest' }}); \
             const box = it.getBoundingClientRect(); return it.disabled || !box.width ? null : [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let place = self.eval(&place)?;
        let (x, y) = (place[0].clone(), place[1].clone());
        if x.is_null() {
            return Err(format!("{selector} cannot be clicked"));
        }
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.ask("Input.dispatchMouseEvent", event)?;
        }
        Ok(())
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        let text = if key.len() == 1 { key } else { "" };
        self.ask(
            "Input.dispatchKeyEvent",
            json!({"type": "keyDown", "key": key, "text": text}),
        )?;
        self.ask(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key}),
        )?;
        Ok(())
    }

    /// Chooses an entry of a list.
    pub(crate) fn choose(&mut self, id: &str, value: &str) -> Result<()> {
        self.set(id, value, "change")
    }

    /// Replaces the text of a field.
    pub(crate) fn fill(&mut self, id: &str, text: &str) -> Result<()> {
        self.set(id, text, "input")
    }

    fn set(&mut self, id: &str, value: &str, event: &str) -> Result<()> {
        let value = json!(value);
        let set = format!(
            "(() => {{ const it = document.getElementById({id:?}); it.value = {value}; \
             it.dispatchEvent(new Event({event:?}, {{ bubbles: true }})); return it.value === {value}; }})()"
        );
        match self.eval(&set)? {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("{id} does not take {value}")),
        }
    }

    /// Returns the text of an element.
    pub(crate) fn text(&mut self, selector: &str) -> Result<String> {
        let text = self.eval(&format!("document.querySelector({selector:?}).textContent"))?;
        let text = text.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{selector} has no text"))
    }

    /// Returns what the page has reported of a kind so far.
    pub(crate) fn reported(&self, method: &str) -> Vec<&Value> {
        let events = self.events.iter();
        let events = events.filter(|event| event["method"] == method);
        events.map(|event| &event["params"]).collect()
    }

    /// Forgets what was logged: a test that has provoked an error has looked at it.
    pub(crate) fn forget_log(&mut self) {
        self.events
            .retain(|event| event["method"] != "Log.entryAdded");
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.sent += 1;
        let id = self.sent;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let text = Message::text(command.to_string());
        self.socket.send(text).map_err(said(method))?;
        loop {
            let message = self.socket.read().map_err(said(method))?;
            let Message::Text(text) = message else {
                continue;
            };
            let value: Value = serde_json::from_str(&text).map_err(said(method))?;
            if value["id"] != id {
                self.events.push(value);
            } else if let Some(error) = value.get("error") {
                return Err(format!("{method}: {error}"));
            } else {
                return Ok(value["result"].clone());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends all its processes before its folder goes; the answer is the end of the connection, or comes
        // before it.
        self.session = None;
        if self.ask("Browser.close", json!({})).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Waits for the line that names the address.
fn listening(stderr: impl BufRead + Send + 'static) -> Result<String> {
    let mut lines = stderr.lines();
    for line in lines.by_ref() {
        let line = line.map_err(said("stderr"))?;
        if let Some(address) = line.strip_prefix("DevTools listening on ") {
            let address = address.trim().to_owned();
            // Somebody must go on reading, or the browser stands still.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(address);
        }
    }
    Err("the browser ended before it listened".to_owned())
}

fn connect(address: &str) -> Result<WebSocket<TcpStream>> {
    let host = address.strip_prefix("ws://");
    let host = host
        .and_then(|rest| rest.split('/').next())
        .ok_or(address)?;
    let stream = TcpStream::connect(host).map_err(said("connect"))?;
    let limit = stream.set_read_timeout(Some(ANSWER_MAX));
    limit.map_err(said("connect"))?;
    let (socket, _) = tungstenite::client(address, stream).map_err(said("handshake"))?;
    Ok(socket)
}

fn said<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
