//! `dpat lab` in a browser: what a user clicks; and `dpat demo shop` on servers.
//!
//! Without a browser, or a server, on the machine each test that needs it reports itself as ignored.

#[path = "live/browser.rs"]
mod browser;
#[path = "live/engines.rs"]
mod engines;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use browser::{Browser, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

const DPAT: &str = env!("CARGO_BIN_EXE_dpat");
/// A protocol, and a known-bad variant of it.
const MUTANT: [&str; 2] = ["counter", "answer-before-sync"];

type Test = fn(&mut Browser, &Lab) -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("a_run_is_that_of_the_command", a_run_is_that_of_the_command),
    ("stepping_goes_both_ways", stepping_goes_both_ways),
    ("filters_hide_and_show", filters_hide_and_show),
    ("a_link_shows_the_same", a_link_shows_the_same),
    (
        "faults_can_be_edited_added_and_shrunk",
        faults_can_be_edited_added_and_shrunk,
    ),
    ("nothing_comes_from_elsewhere", nothing_comes_from_elsewhere),
    (
        "a_page_in_a_file_needs_no_server",
        a_page_in_a_file_needs_no_server,
    ),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // A browser takes every core.
    arguments.test_threads = Some(1);
    let program = browser::program();
    let trial = |(name, test): &(&str, Test)| {
        let test = *test;
        let found = program.clone();
        let run = move || {
            let program = found.ok_or("there is no Chromium in PATH")?;
            inside(&program, test).map_err(Failed::from)
        };
        let absent = program.is_none();
        Trial::test(*name, run)
            .with_kind(if absent { "no Chromium in PATH" } else { "" })
            .with_ignored_flag(absent)
    };
    let trials = TESTS.iter().map(trial).chain(engines::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn inside(program: &Path, test: Test) -> Result<()> {
    let lab = Lab::start()?;
    let mut browser = Browser::start(program)?;
    test(&mut browser, &lab)?;
    quiet(&browser)
}

/// Demands that nothing went wrong unseen.
fn quiet(browser: &Browser) -> Result<()> {
    let thrown = browser.reported("Runtime.exceptionThrown");
    let logged = browser.reported("Log.entryAdded").into_iter();
    let errors: Vec<&Value> = logged
        .filter(|entry| entry["entry"]["level"] == "error")
        .chain(thrown)
        .collect();
    holds(errors.is_empty(), || {
        format!("the page reported {errors:?}")
    })
}

fn holds(what: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if what { Ok(()) } else { Err(otherwise()) }
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    holds(found == expected, || {
        format!("{found:?} instead of {expected:?}")
    })
}

/// `dpat lab` on a free port.
struct Lab {
    child: Child,
    url: String,
    /// A seed of the variant that fails.
    seed: u64,
}

impl Lab {
    fn start() -> Result<Self> {
        let seed = failing_seed()?;
        let mut child = Command::new(DPAT)
            .args(["lab", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut url = String::new();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let read = BufReader::new(stdout).read_line(&mut url);
        let lab = Self {
            child,
            url: url.trim().to_owned(),
            seed,
        };
        read.map_err(|error| error.to_string())?;
        holds(lab.url.starts_with("http://"), || {
            format!("no address: {url:?}")
        })?;
        Ok(lab)
    }

    /// The address of the run that fails.
    fn failing(&self) -> String {
        let [protocol, mutant] = MUTANT;
        let seed = self.seed;
        format!(
            "{}#protocol={protocol}&mutant={mutant}&seed={seed}",
            self.url
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first seed that fails, as `dpat sim` finds it.
fn failing_seed() -> Result<u64> {
    let [protocol, mutant] = MUTANT;
    let name = format!("{protocol}@{mutant}");
    let found = dpat(&["sim", &name, "--seeds", "0..100", "--json"])?;
    let seed = found["violations"][0]["seed"].as_u64();
    seed.ok_or_else(|| format!("{name} holds"))
}

/// What `dpat replay` says of the run that fails.
fn replayed(lab: &Lab, more: &[&str]) -> Result<Value> {
    let [protocol, mutant] = MUTANT;
    let (name, seed) = (format!("{protocol}@{mutant}"), lab.seed.to_string());
    dpat(&[&["replay", &name, &seed, "--json"], more].concat())
}

/// Runs a command and reads the object that it prints.
fn dpat(args: &[&str]) -> Result<Value> {
    let output = Command::new(DPAT).args(args).output();
    let output = output.map_err(|error| error.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(stdout.trim()).map_err(|error| format!("{stdout}: {error}"))
}

fn number(browser: &mut Browser, expression: &str) -> Result<i64> {
    let value = browser.eval(expression)?;
    let number = value.as_i64();
    number.ok_or_else(|| format!("{expression} is {value}, no whole number"))
}

const ROWS: &str = "lab.page.view.rows.length";
const COUNT: &str = "lab.page.trace.count";
const CURSOR: &str = "lab.page.look.cursor";
const SELECTED: &str = "lab.page.look.selected";
const VIOLATION: &str = "lab.page.trace.violationAt";
const HASH: &str = "lab.page.trace.raw.trace_hash";
/// The address is written a moment after the last change.
const WRITTEN: &str = "new Promise((done) => setTimeout(() => done(location.href), 400))";

fn a_run_is_that_of_the_command(browser: &mut Browser, lab: &Lab) -> Result<()> {
    let [protocol, mutant] = MUTANT;
    let seed = lab.seed;
    browser.open(&lab.url)?;
    // The first protocol runs by itself.
    let first = browser.text("#verdict")?;
    holds(first.starts_with("holds"), || first.clone())?;
    browser.choose("protocol", protocol)?;
    browser.until(&format!("lab.page.trace.protocol === '{protocol}'"))?;
    browser.choose("mutant", mutant)?;
    browser.until(&format!("lab.page.trace.mutant === '{mutant}'"))?;
    browser.eval(&format!("document.getElementById('seed').value = '{seed}'"))?;
    browser.click("#run")?;
    browser.until(&format!(
        "lab.page.trace.seed === '{seed}' && lab.page.trace.violation"
    ))?;
    let expected = replayed(lab, &[])?;
    same(&browser.eval(HASH)?, &expected["trace_hash"])?;
    let verdict = browser.text("#verdict")?;
    let property = expected["violation"]["property"]
        .as_str()
        .unwrap_or_default();
    holds(verdict.starts_with(&format!("✗ {property}")), || {
        verdict.clone()
    })?;
    let command = format!("dpat replay {protocol}@{mutant} {seed}");
    holds(verdict.ends_with(&command), || verdict.clone())?;
    // The violation is chosen, and is in sight.
    let chosen = number(browser, SELECTED)?;
    same(&chosen, &number(browser, VIOLATION)?)?;
    let pane = browser.text("#pane")?;
    holds(pane.contains(property), || pane.clone())?;
    // Another seed, by its button.
    browser.click("#seed-up")?;
    browser.until(&format!("lab.page.trace.seed === '{}'", seed + 1))
}

fn stepping_goes_both_ways(browser: &mut Browser, lab: &Lab) -> Result<()> {
    browser.open(&lab.failing())?;
    browser.click("#cone-off")?;
    browser.click("#rewind")?;
    same(&number(browser, CURSOR)?, &0)?;
    for expected in 1..=3 {
        browser.click("#step")?;
        same(&number(browser, CURSOR)?, &expected)?;
        same(&number(browser, SELECTED)?, &expected)?;
    }
    browser.click("#back")?;
    same(&number(browser, CURSOR)?, &2)?;
    let status = browser.text("#status")?;
    holds(status.starts_with("#2 · "), || status.clone())?;
    // On to the violation, where it breaks.
    browser.click("#resume")?;
    let at = number(browser, VIOLATION)?;
    same(&number(browser, CURSOR)?, &at)?;
    // By keys as well.
    browser.eval("document.getElementById('diagram').focus()")?;
    browser.press("S")?;
    same(&number(browser, CURSOR)?, &(at - 1))?;
    browser.press("Escape")?;
    same(&number(browser, CURSOR)?, &-1)?;
    // Playing goes on by itself, and stops.
    browser.click("#rewind")?;
    browser.choose("speed", "200")?;
    browser.click("#play")?;
    browser.until(&format!("{CURSOR} > 20"))?;
    browser.click("#play")?;
    same(
        &browser.eval("document.getElementById('play').getAttribute('aria-label')")?,
        &"Play".into(),
    )
}

fn filters_hide_and_show(browser: &mut Browser, lab: &Lab) -> Result<()> {
    browser.open(&lab.failing())?;
    let all = number(browser, COUNT)?;
    // A violation is first seen with its causes alone.
    let cone = number(browser, ROWS)?;
    holds(0 < cone && cone < all, || {
        format!("{cone} of {all} in the cone")
    })?;
    browser.click("#cone-off")?;
    same(&number(browser, ROWS)?, &all)?;
    // A kind of message.
    let adds = number(browser, "lab.page.trace.tally().get('add')")?;
    browser.click("[data-chip=\"add\"]")?;
    same(
        &browser
            .eval("document.querySelector('[data-chip=\"add\"]').getAttribute('aria-pressed')")?,
        &"false".into(),
    )?;
    let without = number(browser, ROWS)?;
    holds((all - adds..=all - adds + 1).contains(&without), || {
        format!("{without} of {all} without {adds}")
    })?;
    let shown = browser.text("#shown")?;
    holds(shown.contains(" of "), || shown.clone())?;
    browser.click("[data-chip=\"add\"]")?;
    same(&number(browser, ROWS)?, &all)?;
    // A node: its lane goes away.
    let lanes = number(browser, "lab.page.view.lanes.length")?;
    let name = browser.text("[data-node=\"0\"] b")?;
    browser.click(&format!("[data-chip=\"{name}\"]"))?;
    same(
        &number(browser, "lab.page.view.lanes.length")?,
        &(lanes - 1),
    )?;
    browser.click("#clear")?;
    // A text.
    browser.fill("text", "crash")?;
    let found = number(browser, ROWS)?;
    holds(0 < found && found < all, || {
        format!("{found} with the text")
    })?;
    browser.fill("text", "nowhere to be found")?;
    same(&number(browser, ROWS)?, &1)?; // the violation stays
    browser.click("#clear")?;
    same(&number(browser, ROWS)?, &all)
}

/// What a link must bring back.
fn state(browser: &mut Browser) -> Result<Value> {
    browser.eval(
        "({ hash: lab.page.trace.raw.trace_hash, rows: lab.page.view.rows.length, zoom: lab.page.view.zoom, \
         selected: lab.page.look.selected, cursor: lab.page.look.cursor, scale: lab.page.view.scale, \
         text: document.getElementById('text').value, tab: document.querySelector('[role=tab][aria-selected=true]').id, \
         script: document.getElementById('script').value, edited: !document.getElementById('script-badge').hidden })",
    )
}

fn a_link_shows_the_same(browser: &mut Browser, lab: &Lab) -> Result<()> {
    browser.open(&lab.failing())?;
    browser.click("#cone-off")?;
    browser.click("[data-chip=\"timers\"]")?;
    browser.fill("text", "add")?;
    browser.click("#rewind")?;
    browser.click("#step")?;
    browser.click("#scale-time")?;
    browser.click("#zoom-in")?;
    browser.click("#tab-nodes")?;
    let before = state(browser)?;
    let link = browser.eval(WRITTEN)?;
    let link = link.as_str().unwrap_or_default().to_owned();
    for part in [
        "protocol=counter",
        &format!("seed={}", lab.seed),
        "cone=off",
        "text=add",
        "scale=time",
        "tab=nodes",
    ] {
        holds(link.contains(part), || format!("{part} is not in {link}"))?;
    }
    browser.open(&link)?;
    same(&state(browser)?, &before)?;
    // The button copies that address, or shows it where the clipboard is not to be had.
    browser.click("#share")?;
    browser.until("!document.getElementById('toast').hidden")?;
    // Faults of one's own are in the link too.
    browser.click("#tab-script")?;
    let shorter =
        "JSON.stringify({ ...JSON.parse(document.getElementById('script').value), ops: [] })";
    let shorter = browser.eval(shorter)?;
    browser.fill("script", shorter.as_str().unwrap_or_default())?;
    browser.click("#script-run")?;
    browser.until("!lab.page.trace.violation")?;
    let before = state(browser)?;
    same(&before["edited"], &true.into())?;
    let link = browser.eval(WRITTEN)?;
    browser.open(link.as_str().unwrap_or_default())?;
    same(&state(browser)?, &before)
}

fn faults_can_be_edited_added_and_shrunk(browser: &mut Browser, lab: &Lab) -> Result<()> {
    const OPS: &str = "JSON.parse(document.getElementById('script').value).ops.length";
    browser.open(&lab.failing())?;
    let drawn = number(browser, OPS)?;
    let property = browser.eval("lab.page.trace.violation.property")?;
    browser.click("#shrink")?;
    browser.until("!document.getElementById('script-badge').hidden && !document.getElementById('run').hasAttribute('aria-busy')")?;
    browser.until(&format!("{OPS} < {drawn}"))?;
    browser.until("lab.page.trace.violation")?;
    same(
        &browser.eval("lab.page.trace.violation.property")?,
        &property,
    )?;
    let left = number(browser, OPS)?;
    // A crash just before the chosen event. Clients are no nodes of the script, and cannot crash.
    browser.click("#tab-event")?;
    browser.eval("lab.page.select(lab.page.trace.perNode.at(-1)[0], true)")?;
    let offered = "document.querySelectorAll('[data-inject]').length";
    same(&number(browser, offered)?, &0)?;
    browser.eval("lab.page.select(lab.page.trace.perNode[0][1], true)")?;
    same(&number(browser, offered)?, &3)?;
    browser.click("[data-inject=\"crash\"]")?;
    browser.until(&format!("{OPS} === {}", left + 1))?;
    browser.until("!document.getElementById('run').hasAttribute('aria-busy')")?;
    // A slip is told with its place, and leads there.
    browser.click("#tab-script")?;
    browser.fill("script", "{\n\"version\": 2}")?;
    browser.until("document.querySelector('#script-errors button')")?;
    let told = browser.text("#script-errors")?;
    holds(told.starts_with("2:12 version: "), || told.clone())?;
    browser.click("#script-drawn")?;
    browser.until("document.getElementById('script').value")?;
    browser.until(&format!("{OPS} === {drawn}"))?;
    // The browser logs the refused request by itself.
    let refused = browser.reported("Log.entryAdded").len();
    same(&refused, &1)?;
    browser.forget_log();
    Ok(())
}

fn nothing_comes_from_elsewhere(browser: &mut Browser, lab: &Lab) -> Result<()> {
    browser.open(&lab.failing())?;
    browser.click("#theme")?;
    browser.click("#help")?;
    browser.until("document.getElementById('help-dialog').open")?;
    browser.press("Escape")?;
    let requests = browser.reported("Network.requestWillBeSent");
    let urls = requests
        .iter()
        .filter_map(|it| it["request"]["url"].as_str());
    let urls: Vec<&str> = urls.collect();
    holds(urls.len() >= 3, || format!("{urls:?}"))?;
    let foreign = |url: &&str| !url.starts_with(&lab.url) && !url.starts_with("data:");
    let foreign: Vec<&str> = urls.into_iter().filter(foreign).collect();
    holds(foreign.is_empty(), || format!("{foreign:?}"))
}

fn a_page_in_a_file_needs_no_server(browser: &mut Browser, lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("run.html");
    let expected = replayed(lab, &["--trace", &file.display().to_string()])?;
    browser.open(&format!("file://{}", file.display()))?;
    same(&browser.eval(HASH)?, &expected["trace_hash"])?;
    // Something is drawn: the middle of the diagram has more than one colour.
    let colours = "(() => { const canvas = document.getElementById('canvas'); \
         const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); \
         return new Set(new Uint32Array(data.buffer)).size; })()";
    let colours = number(browser, colours)?;
    holds(colours > 3, || format!("{colours} colours"))?;
    browser.click("#rewind")?;
    browser.click("#step")?;
    holds(number(browser, CURSOR)? > 0, || "no step".to_owned())
}
