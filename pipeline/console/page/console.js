// The page of `memsync console`. It asks for what there is every other second, and shows it. Whatever comes from outside
// becomes text nodes and nothing else.
"use strict";

const REFRESH_MS = 2000;
const TOKEN = /^[A-Za-z0-9_-]{43}$/;
const STATES = {
  in_sync: ["in sync", "good"],
  dead_letters: ["dead letters", "warning"],
  guarded: ["deletes withheld", "warning"],
  failed: ["failed", "bad"],
  interrupted: ["interrupted", "warning"],
  locked: ["running", "busy"],
  running: ["running", "busy"],
  null: ["never ran", "quiet"],
};
const WORST_FIRST = ["failed", "guarded", "dead_letters", "interrupted", "locked", "running", null, "in_sync"];
const VERBS = {
  run: "Run", allow_mass_delete: "Delete them", plan: "Plan", verify: "Verify", replay: "Replay", drop: "Drop",
};

let token = "";
let known = { sources: [], commands: [], problem: null };
let shown = ""; // what the page was last made of: it is made anew only if that changes
let letters = { of: "", reason: "", words: "", chosen: new Set(), open: null, told: null };
let hits = { query: "", source: "", told: null, problem: null };

// ------------------------------------------------------------------------------------------------ elements

function make(name, attributes = {}, ...children) {
  const element = name === "svg" || name === "rect" || name === "title"
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(
    (child) => child instanceof Node ? child : harmless(String(child))));
  return element;
}

// Characters that would turn what stands beside them around, or show nothing.
function harmless(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));
}

const number = (value) => Number(value).toLocaleString("en");
const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

function ago(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  const past = Date.now() / 1000 - seconds;
  const span = Math.abs(past);
  const words = span < 90 ? `${Math.round(span)} s` : span < 5400 ? `${Math.round(span / 60)} min`
    : span < 129600 ? `${Math.round(span / 3600)} h` : `${Math.round(span / 86400)} days`;
  return past >= 0 ? `${words} ago` : `in ${words}`;
}

function when(seconds) {
  return seconds === null || seconds === undefined ? null
    : make("time", { datetime: new Date(seconds * 1000).toISOString(), title: new Date(seconds * 1000).toLocaleString() }, ago(seconds));
}

function lasted(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds < 90 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function state(status) {
  const [words, tone] = STATES[status] ?? [String(status), "quiet"];
  return make("span", { class: `state ${tone}` }, words);
}

// ------------------------------------------------------------------------------------------------ asking

async function ask(path, asked) {
  let response;
  try {
    response = await fetch(path, {
      method: asked === undefined ? "GET" : "POST",
      headers: { Authorization: `Bearer ${token}`, ...(asked === undefined ? {} : { "Content-Type": "application/json" }) },
      body: asked === undefined ? undefined : JSON.stringify(asked),
    });
  } catch {
    throw new Error("The console has ended. Start it again: memsync console");
  }
  const told = await response.json();
  if (!response.ok) throw new Error(told.problem);
  return told;
}

const pathOf = (source, ...rest) => ["/api/sources", encodeURIComponent(source), ...rest.map(encodeURIComponent)].join("/");

function sayProblem(words) {
  const place = document.getElementById("problem");
  place.hidden = !words;
  place.textContent = words ? harmless(words) : "";
}

function say(words) {
  document.getElementById("said").textContent = words;
}

async function attempt(doing) {
  try {
    return await doing();
  } catch (error) {
    sayProblem(error.message);
    return null;
  }
}

// The command is shown before what cannot be taken back.
function confirmed(title, words, typed, yes, isDanger) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-words").textContent = words;
  document.getElementById("ask-typed").textContent = typed;
  const button = document.getElementById("ask-yes");
  button.textContent = yes;
  button.className = isDanger ? "danger" : "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function start(source, verb, chosen = []) {
  if (verb === "drop" && !await confirmed(
    `Drop ${plural(chosen.length, "dead letter")}?`,
    "They are given up for good: the memory goes without, until their documents change.",
    `memsync dead-letters drop --source ${source} …`, "Drop", true)) return;
  if (verb === "allow_mass_delete" && !await confirmed(
    `Delete what is gone from ${source}?`,
    "See first that the documents are really gone from the source, and that it is not just out of reach.",
    `memsync run --allow-mass-delete --source ${source}`, "Delete", true)) return;
  const told = await attempt(() => ask(pathOf(source, "commands"), { verb, letters: chosen }));
  if (told) {
    say(`Started: ${told.typed}`);
    letters.chosen.clear();
    await refresh();
  }
}

// ------------------------------------------------------------------------------------------------ parts

const atWork = (source) => known.commands.find((each) => each.source === source.name && each.ended_at === null);
const isRunning = (source) => source.runs[0]?.status === "running" || source.status === "locked";

function actions(source) {
  const started = atWork(source);
  if (started) {
    return make("p", { class: "actions" },
      make("button", { class: "plain", onclick: () => attempt(() => ask(`/api/commands/${started.id}/stop`, {})) },
        `Stop ${started.verb}`));
  }
  const isBusy = isRunning(source);
  return make("p", { class: "actions" },
    source.status === "guarded" ? make("button", { class: "danger", disabled: isBusy, onclick: () => start(source.name, "allow_mass_delete") }, "Delete what is gone …") : null,
    ...["plan", "verify"].map((verb) => make("button", { class: "plain", disabled: isBusy, onclick: () => start(source.name, verb) }, VERBS[verb])),
    make("button", { disabled: isBusy, onclick: () => start(source.name, "run") }, "Run"));
}

function facts(source) {
  const fact = (words, ...rest) => make("li", {}, ...rest, " ", make("span", { class: "quiet" }, words));
  return make("ul", { class: "facts" },
    fact("documents", make("b", {}, number(source.documents ?? 0))),
    fact("records", make("b", {}, number(source.records ?? 0))),
    source.dead_letters ? make("li", {}, make("a", { href: hash(source.name, "letters") }, make("b", {}, plural(source.dead_letters, "dead letter")))) : null,
    source.withheld_documents ? make("li", { class: "warning" }, make("b", {}, number(source.withheld_documents)), " gone from the source and kept") : null,
    source.quarantined ? fact("in quarantine", make("b", {}, number(source.quarantined))) : null,
    source.dropped ? fact("dropped", make("b", {}, number(source.dropped))) : null,
    source.pending_batches ? fact(source.pending_batches === 1 ? "request on its way" : "requests on their way", make("b", {}, number(source.pending_batches))) : null,
    make("li", {}, make("span", { class: "quiet" }, "last run "), when(source.last_run_at ?? source.last_started_at) ?? "never"),
    source.next_run_at ? make("li", {}, make("span", { class: "quiet" }, "due "), when(source.next_run_at)) : null);
}

function progress(source) {
  const report = source.progress;
  if (!isRunning(source) || !report) return null;
  const { documents, records } = report.account;
  const written = records.created + records.updated + records.deleted;
  const seconds = Math.max(1, Date.now() / 1000 - report.started_at);
  return make("p", { class: "why busy" },
    `${plural(documents.seen, "document")} seen, ${number(documents.unchanged)} unchanged, ${plural(written, "record")} written`,
    written ? ` (${(written / seconds).toFixed(1)} a second)` : "", `, ${lasted(seconds)}`);
}

function spark(runs) {
  const past = runs.slice(0, 60).reverse();
  if (past.length < 2) return null;
  const most = Math.max(1, ...past.map((run) => run.added + run.changed + run.removed + run.failed));
  const svg = make("svg", { class: "spark", width: past.length * 8, height: 28, viewBox: `0 0 ${past.length * 8} 28`, role: "img",
    "aria-label": `the last ${past.length} runs: ${past.filter((run) => run.status === "in_sync").length} in sync` });
  past.forEach((run, at) => {
    const height = 4 + 24 * Math.sqrt((run.added + run.changed + run.removed + run.failed) / most);
    svg.append(make("rect", { x: at * 8, y: 28 - height, width: 6, height, rx: 1.5, class: (STATES[run.status] ?? ["", ""])[1] },
      make("title", {}, `${new Date(run.started_at * 1000).toLocaleString()}: ${(STATES[run.status] ?? [run.status])[0]}, ${plural(run.added + run.changed + run.removed, "change")}`)));
  });
  return svg;
}

function why(source) {
  const words = source.problem ?? source.runs[0]?.error;
  return words && source.status !== "in_sync" ? make("p", { class: "why bad" }, words) : null;
}

function output(started) {
  const ended = started.ended_at === null ? state("running")
    : make("span", { class: `state ${started.exit_code === 0 ? "good" : started.exit_code === 1 || started.exit_code === 2 ? "bad" : "warning"}` }, `ended with ${started.exit_code}`);
  return make("div", { class: "card" },
    make("p", { class: "line" }, make("code", {}, started.typed), ended, when(started.started_at)),
    started.lines.length ? make("pre", {}, started.lines.join("\n")) : null);
}

// ------------------------------------------------------------------------------------------------ views

const hash = (...parts) => "#/source/" + parts.map(encodeURIComponent).join("/");

function viewSources() {
  const sources = [...known.sources].sort((one, other) =>
    WORST_FIRST.indexOf(one.problem ? "failed" : one.status) - WORST_FIRST.indexOf(other.problem ? "failed" : other.status)
    || one.name.localeCompare(other.name));
  return [
    make("h1", {}, "Sources"),
    make("ul", { class: "cards" }, sources.map((source) => make("li", { class: "card" },
      make("div", { class: "line" },
        make("a", { class: "name", href: hash(source.name) }, source.name),
        source.problem ? make("span", { class: "state bad" }, "cannot be read") : state(isRunning(source) ? "running" : source.status),
        make("span", { class: "quiet" }, `${source.type} → ${source.memory}`),
        actions(source)),
      facts(source), progress(source), why(source), spark(source.runs)))),
  ];
}

function viewSource(source, tab) {
  const tabs = [["", "Now"], ["runs", "Runs"], ["letters", source.dead_letters ? `Dead letters (${number(source.dead_letters)})` : "Dead letters"]];
  const parts = { "": viewNow, runs: viewRuns, letters: viewLetters };
  return [
    make("div", { class: "line card" },
      make("div", { class: "line" }, make("h1", {}, source.name), state(isRunning(source) ? "running" : source.status), actions(source)),
      facts(source), progress(source), why(source)),
    make("nav", { class: "tabs", "aria-label": "Parts" }, tabs.map(([name, words]) =>
      make("a", { href: name ? hash(source.name, name) : hash(source.name), "aria-current": tab === name ? "page" : null }, words))),
    ...(parts[tab] ?? viewNow)(source),
  ];
}

function viewNow(source) {
  const mine = known.commands.filter((started) => started.source === source.name);
  return [
    make("p", { class: "quiet" }, make("code", {}, source.file), ` → ${source.memory}`, source.schedule ? ` · schedule ${source.schedule}` : ""),
    spark(source.runs),
    make("h2", {}, "Started from this page"),
    mine.length ? make("div", { class: "cards" }, mine.map(output)) : make("p", { class: "quiet" }, "Nothing yet. Every button runs a command, which will stand here with what it says."),
  ];
}

function viewRuns(source) {
  if (!source.runs.length) return [make("p", { class: "quiet" }, "It has never run.")];
  const heads = [["Began", ""], ["Command", ""], ["Ended", ""], ["Took", "number"], ["Added", "number"], ["Changed", "number"], ["Removed", "number"], ["Failed", "number"], ["Records", "number"], ["", ""]];
  return [make("div", { class: "scroll" }, make("table", { class: "runs" },
    make("thead", {}, make("tr", {}, heads.map(([words, kind]) => make("th", { class: kind, scope: "col" }, words)))),
    make("tbody", {}, source.runs.map((run) => make("tr", {},
      make("td", {}, when(run.started_at)), make("td", {}, run.verb),
      make("td", { class: "wide" }, state(run.status), run.error ? make("div", { class: "quiet" }, run.error) : null),
      make("td", { class: "number" }, lasted(run.seconds)),
      ...["added", "changed", "removed", "failed", "records"].map((name) => make("td", { class: "number" }, run[name] ? number(run[name]) : "·")),
      make("td", {}, run.report ? make("button", { class: "plain", onclick: () => openReport(source.name, run.run_id) }, "Report") : null))))))];
}

async function openReport(source, run) {
  const view = window.open("about:blank", "_blank"); // at once: later it would be blocked
  const told = await attempt(() => ask(pathOf(source, "report", run), {}));
  if (told && view) {
    view.opener = null;
    view.location = new URL(told.address, location.href);
  } else {
    view?.close();
  }
}

function viewLetters(source) {
  const told = letters.of === source.name ? letters.told : null;
  if (!told) return [make("p", { class: "quiet" }, "Loading …")];
  if (!told.total) return [make("p", { class: "good" }, "No dead letters: everything that the source has is in the memory.")];
  const advice = told.reasons.find((reason) => reason.code === letters.reason)?.advice;
  const chosen = [...letters.chosen];
  const isBusy = Boolean(atWork(source)) || isRunning(source);
  return [
    make("div", { class: "reasons", role: "group", "aria-label": "Reasons" },
      make("button", { "aria-pressed": String(letters.reason === ""), onclick: () => choose({ reason: "" }) }, `all ${number(told.total)}`),
      told.reasons.map((reason) => make("button", { "aria-pressed": String(letters.reason === reason.code), onclick: () => choose({ reason: reason.code }) },
        make("b", {}, number(reason.count)), ` ${reason.code}`))),
    advice ? make("p", {}, advice) : null,
    make("div", { class: "bar" },
      make("label", { class: "unseen", for: "words" }, "Filter by document or message"),
      make("input", { id: "words", type: "search", placeholder: "Filter by document or message", value: letters.words, oninput: (event) => choose({ words: event.target.value }) }),
      make("span", { class: "quiet" }, told.letters.length < told.chosen ? `the last ${number(told.letters.length)} of ${number(told.chosen)}` : plural(told.chosen, "letter")),
      make("p", { class: "actions" },
        make("button", { id: "replay", disabled: isBusy, onclick: () => start(source.name, "replay", chosen) }, chosen.length ? `Replay ${number(chosen.length)}` : "Replay all"),
        make("button", { id: "drop", class: "plain", disabled: isBusy || !chosen.length, onclick: () => start(source.name, "drop", chosen) }, chosen.length ? `Drop ${number(chosen.length)} …` : "Drop …"))),
    make("div", { class: "scroll" }, make("table", { class: "letters" },
      make("thead", {}, make("tr", {},
        make("th", { scope: "col" }, make("input", { type: "checkbox", id: "all", "aria-label": "All that are shown", checked: told.letters.length > 0 && told.letters.every((letter) => letters.chosen.has(letter.id)),
          onchange: (event) => { for (const letter of told.letters) letters.chosen[event.target.checked ? "add" : "delete"](letter.id); draw(); } })),
        ["Document", "Why", "Attempts", "Last"].map((words) => make("th", { scope: "col", class: words === "Attempts" ? "number" : null }, words)))),
      make("tbody", {}, told.letters.flatMap((letter) => letterRows(source, letter))))),
  ];
}

function letterRows(source, letter) {
  const isOpen = letters.open?.id === letter.id;
  const row = make("tr", {},
    make("td", {}, make("input", { type: "checkbox", "aria-label": letter.document, checked: letters.chosen.has(letter.id),
      onchange: (event) => { letters.chosen[event.target.checked ? "add" : "delete"](letter.id); draw(); } })),
    make("td", { class: "wide" }, make("button", { class: "plain", "aria-expanded": String(isOpen), onclick: () => openLetter(source.name, letter.id) }, letter.document)),
    make("td", { class: "wide" }, make("b", {}, letter.code), make("div", { class: "quiet" }, letter.message)),
    make("td", { class: "number" }, number(letter.attempts)), make("td", {}, when(letter.last_failed_at)));
  return isOpen ? [row, make("tr", {}, make("td", {}), make("td", { colspan: 4 }, make("pre", {}, JSON.stringify(letters.open, null, 2))))] : [row];
}

async function openLetter(source, id) {
  letters.open = letters.open?.id === id ? null : await attempt(() => ask(pathOf(source, "letters", id)));
  draw();
}

async function choose(change) {
  Object.assign(letters, change);
  letters.chosen.clear();
  await loadLetters(letters.of);
  draw();
}

async function loadLetters(source) {
  if (letters.of !== source) letters = { of: source, reason: "", words: "", chosen: new Set(), open: null, told: null };
  const asked = new URLSearchParams({ reason: letters.reason, words: letters.words }).toString();
  const told = await ask(`${pathOf(source, "letters")}?${asked}`);
  if (letters.of !== source || asked !== new URLSearchParams({ reason: letters.reason, words: letters.words }).toString()) return; // overtaken
  letters.told = told;
  const ids = new Set(told.letters.map((letter) => letter.id));
  for (const id of letters.chosen) if (!ids.has(id)) letters.chosen.delete(id);
}

function viewSearch() {
  const title = make("h1", {}, hits.query ? `“${hits.query}”` : "Search");
  if (hits.problem) return [title, make("p", { class: "bad" }, hits.problem)];
  if (!hits.told) return [title, make("p", { class: "quiet" }, hits.query ? "Asking the memory …" : "Type what an agent would ask.")];
  const problems = hits.told.problems.map((each) => make("p", { class: "why bad" }, make("b", {}, each.source), ` was not searched: ${each.problem}`));
  if (!hits.told.hits.length) return [title, ...problems, hits.told.problems.length === known.sources.length ? null : make("p", { class: "quiet" }, "The memory finds nothing.")];
  return [title, ...problems, make("div", { class: "cards" }, hits.told.hits.map((hit) => make("article", { class: "card hit" },
    make("div", { class: "line" }, make("b", {}, hit.document_id ?? "a record that is not ours"),
      hit.source ? make("a", { href: hash(hit.source) }, hit.source) : null, make("span", { class: "quiet" }, `score ${hit.score.toFixed(3)}`)),
    make("pre", {}, hit.text))))];
}

async function search(query) {
  hits = { query, told: null, problem: null };
  draw();
  if (!query) return;
  try {
    const told = await ask(`/api/search?${new URLSearchParams({ query })}`);
    if (hits.query === query) hits.told = told;
  } catch (error) {
    if (hits.query === query) hits.problem = error.message;
  }
  draw();
}

// ------------------------------------------------------------------------------------------------ going on

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch { // somebody typed a percent sign
    return part;
  }
}

function place() {
  const [view = "", name = "", tab = ""] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  return { view, name, tab };
}

function draw(isForced = true) {
  const { view, name, tab } = place();
  const source = known.sources.find((each) => each.name === name);
  // Times go by while nothing happens: a minute is fine enough for words such as "3 min ago".
  const made = JSON.stringify([location.hash, known, letters.told, hits, known.sources.some(isRunning) ? Date.now() : Math.floor(Date.now() / 30000)]);
  if (!isForced && made === shown) return;
  shown = made;
  const main = document.getElementById("main");
  const focused = document.activeElement;
  const mark = focused && main.contains(focused) ? position(main, focused) : null;
  const range = mark && focused.selectionStart !== undefined && focused.type !== "checkbox" ? [focused.selectionStart, focused.selectionEnd] : null;
  const scrolled = [...main.querySelectorAll("pre")].map((each) => each.scrollTop + each.clientHeight >= each.scrollHeight - 4);
  const parts = view === "search" ? viewSearch() : view === "source" && source ? viewSource(source, tab)
    : view === "source" ? [make("p", {}, "There is no such source any more. ", make("a", { href: "#/" }, "All sources"))] : viewSources();
  main.replaceChildren(...parts.filter((part) => part !== null));
  for (const box of main.querySelectorAll("input[type=checkbox]")) box.checked = box.hasAttribute("checked");
  main.querySelectorAll("pre").forEach((each, at) => { if (scrolled[at]) each.scrollTop = each.scrollHeight; });
  if (mark) {
    const again = find(main, mark);
    again?.focus({ preventScroll: true });
    if (again && range && again.setSelectionRange) again.setSelectionRange(...range);
  }
  const ill = known.sources.filter((each) => each.problem || !["in_sync", "locked", "running", null].includes(each.status));
  document.getElementById("verdict").textContent = !known.sources.length ? "" : ill.length
    ? `${plural(ill.length, "source")} of ${known.sources.length} need${ill.length === 1 ? "s" : ""} you` : `${plural(known.sources.length, "source")}, nothing to do`;
  document.title = (ill.length ? `(${ill.length}) ` : "") + (name ? `${harmless(name)} · memsync` : "memsync");
}

// Where an element stands among those that can have the focus: who uses the keyboard must not lose the place.
const FOCUSABLE = "a, button, input, select";
function position(main, element) {
  return element.id ? { id: element.id } : { at: [...main.querySelectorAll(FOCUSABLE)].indexOf(element), words: element.textContent };
}
function find(main, mark) {
  if (mark.id) return document.getElementById(mark.id);
  const all = [...main.querySelectorAll(FOCUSABLE)];
  return all[mark.at]?.textContent === mark.words ? all[mark.at] : all.find((each) => each.textContent === mark.words && mark.words) ?? all[mark.at];
}

async function refresh() {
  try {
    known = await ask("/api/overview");
    const { view, name, tab } = place();
    if (view === "source" && tab === "letters") await loadLetters(name);
    sayProblem(known.problem);
  } catch (error) {
    sayProblem(error.message);
  }
  draw(false);
}

// One answer is waited for before the next is asked for; what takes long to tell is asked for less often.
function goOn(afterMs) {
  setTimeout(async () => {
    const began = performance.now();
    if (!document.hidden) await refresh();
    goOn(Math.max(REFRESH_MS, 2 * (performance.now() - began)));
  }, afterMs);
}

async function navigate() {
  const { view, name } = place();
  const query = view === "search" ? name : "";
  document.getElementById("query").value = query;
  if (view === "search" && query !== hits.query) search(query);
  await refresh();
  draw();
  document.getElementById("main").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

// The token comes behind the `#`, which no browser sends; from then on this tab keeps it.
function begin() {
  const given = location.hash.slice(1);
  if (TOKEN.test(given)) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname + "#/");
  }
  token = sessionStorage.getItem("token") ?? "";
  window.addEventListener("hashchange", navigate);
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = "#/search/" + encodeURIComponent(document.getElementById("query").value.trim());
  });
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // what is behind the `#` says what is shown
    document.getElementById("main").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(input|select|textarea)$/i.test(document.activeElement?.tagName ?? "") && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      document.getElementById("query").focus();
    }
  });
  navigate();
  goOn(REFRESH_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

begin();
