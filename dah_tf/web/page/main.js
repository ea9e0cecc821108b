// Joins the parts: controls, address bar, service, results.

import { factRows, say, texts } from "./strings.js";
import * as address from "./address.js";
import * as api from "./api.js";
import * as bits from "./bits.js";
import * as results from "./results.js";
import * as saving from "./saving.js";

const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const RERANKED = [0, 100, 1000, 10000];
const WAIT = 150; // milliseconds after the last move of a slider

const at = (id) => document.getElementById(id);
const list = at("results");
const pictures = new Map(); // code of an uploaded image -> its file, for "back"

let facts = null;
let query = null; // {file, code?}, {id} or {code}
let options = { ...address.defaults };
let answer = null;
let running = null; // the AbortController of the search that runs
let timer = 0;

for (const each of document.querySelectorAll("[data-text]"))
  each.textContent = texts[each.dataset.text];
document.title = texts.title;

// ---- facts about the index

async function loadFacts() {
  facts = await api.facts();
  at("summary").textContent = say.summary(facts);
  const rows = factRows.map(([name, value]) => [name, value(facts)]).filter(([, value]) => value);
  at("facts").replaceChildren(
    ...rows.flatMap(([name, value]) => [made("dt", name), made("dd", value)]),
  );
  at("k").max = COUNTS.filter((each) => each <= facts.limits.k).length - 1;
  at("distance").max = facts.bits;
  const labels = facts.labels ?? [];
  at("label-field").hidden = labels.length === 0;
  at("label").replaceChildren(
    new Option(say.anyLabel(facts.label_count), ""),
    ...labels.map((each) => new Option(say.labelled(each.label, each.items), each.label)),
  );
  at("rerank").replaceChildren(
    ...RERANKED.map((each) => new Option(each ? say.rerankOf(each) : say.rerankOff, each)),
  );
  at("key-button").hidden = !facts.features.write_with_key && !api.hasKey();
  if (!facts.model.fits) complain(say.unfit);
  showControls();
}

function made(tag, text) {
  const found = document.createElement(tag);
  found.textContent = text;
  return found;
}

// ---- controls

function showControls() {
  const place = COUNTS.findLastIndex((each) => each <= options.k);
  at("k").value = Math.max(0, place);
  const shown = say.itemsShown(options.k);
  at("k-shown").textContent = shown;
  at("k").setAttribute("aria-valuetext", shown);
  const limit = Math.min(options.distance ?? facts.bits, facts.bits);
  at("distance").value = limit;
  at("distance-shown").textContent = say.distance(limit, facts.bits);
  at("distance").setAttribute("aria-valuetext", say.distance(limit, facts.bits));
  const label = at("label");
  if (options.label && ![...label.options].some((each) => each.value === options.label))
    label.append(new Option(options.label, options.label));
  label.value = options.label;
  at("rerank").value = RERANKED.includes(options.rerank) ? options.rerank : 0;
  at("rerank-field").hidden = !(facts.features.rerank && query?.file);
  at("add").hidden = !(facts.features.write && query?.file);
  at("add-store-field").hidden = !facts.features.store;
}

function takeControls() {
  const distance = Number(at("distance").value);
  options = {
    k: COUNTS[at("k").value],
    distance: distance < facts.bits ? distance : null,
    label: at("label").value,
    rerank: Number(at("rerank").value),
  };
  showControls();
  if (!query) return;
  history.replaceState(null, "", address.write(query, options));
  clearTimeout(timer);
  timer = setTimeout(run, WAIT);
}

// ---- searching

async function run() {
  if (!query) return;
  running?.abort();
  const mine = (running = new AbortController());
  complain("");
  at("status").textContent = say.searching;
  const asked = query;
  // The code of an uploaded image is known after its first search.
  const sent = asked.file && asked.code && !options.rerank ? { code: asked.code } : asked;
  const { k, distance, label, rerank } = options;
  try {
    const found = await api.search(
      sent.file ? { file: sent.file } : sent,
      { k, max_distance: distance, label, rerank: sent.file ? rerank : null },
      mine.signal,
    );
    if (mine.signal.aborted) return;
    answer = found;
    if (asked.file) {
      asked.code = found.query.code;
      pictures.set(asked.code, asked.file);
      history.replaceState(null, "", address.write(asked, options));
    }
    showAnswer();
  } catch (problem) {
    if (mine.signal.aborted) return;
    answer = null;
    results.clear(list);
    for (const id of ["status", "precision", "ties", "latency"]) at(id).textContent = "";
    at("csv").disabled = at("json").disabled = true;
    explain(problem);
  }
}

function showAnswer() {
  const found = answer.neighbours;
  at("status").textContent = found.length ? say.found(found.length) : say.empty;
  at("ties").textContent = say.ties(answer);
  at("latency").textContent = say.latency(answer.latency_ms);
  const judged = results.judged(answer);
  const right = judged.filter((each) => each.label === answer.query.label).length;
  at("precision").textContent = judged.length
    ? say.precision(right, judged.length, answer.query.label)
    : "";
  at("csv").disabled = at("json").disabled = !found.length;
  results.show(list, answer, {
    href: (each) => address.write({ id: each.id }, options),
    removable: facts.features.write,
  });
  showQuery();
}

function showQuery() {
  const about = answer?.query;
  const preview = at("preview");
  const file = query?.file ?? pictures.get(query?.code);
  const path = file ? URL.createObjectURL(file) : query?.id !== undefined ? api.thumbnail(query.id, 256) : null;
  const name = query?.file
    ? say.byFile(query.file.name || texts.query)
    : query?.id !== undefined
      ? say.byItem(about?.key ?? "", query.id)
      : query
        ? say.byCode(query.code)
        : "";
  at("query-about").textContent = name + (about?.label ? ` ${say.queryLabel(about.label)}` : "");
  if (path === null) {
    preview.replaceChildren();
  } else {
    const image = Object.assign(document.createElement("img"), { alt: say.queryAlt });
    image.addEventListener("error", () => preview.replaceChildren());
    preview.replaceChildren(image);
    if (file) {
      image.addEventListener("load", () => URL.revokeObjectURL(path), { once: true });
      image.src = path;
    } else api.show(image, path);
  }
  at("drop-hint").hidden = path !== null;
  at("strip").hidden = !about;
  if (about) compare(null);
  showControls();
}

// Shows the query's bits, and below them those of a result.
function compare(code) {
  if (!answer) return;
  const own = answer.query.code;
  const places = code ? bits.differing(own, code, answer.bits) : [];
  const [first, second] = [at("strip-query"), at("strip-other")];
  bits.draw(first, own, answer.bits, places);
  first.setAttribute("aria-label", say.strip(own, answer.bits));
  second.hidden = !code;
  if (code) {
    bits.draw(second, code, answer.bits, places);
    second.setAttribute("aria-label", say.strip(code, answer.bits));
  }
  at("strip-about").textContent = code ? say.stripAbout(places, answer.bits) : say.stripHint;
}

// ---- queries

function searchFor(next, remember = true) {
  query = next;
  answer = null;
  if (remember) history.pushState(null, "", address.write(next, options));
  showQuery();
  run();
}

function takeFile(file) {
  if (!file) return;
  if (file.type && !file.type.startsWith("image/")) complain(say.notImage);
  else searchFor({ file });
}

function fromAddress() {
  ({ query, options } = address.read(location.search));
  options.k = Math.min(options.k, facts.limits.k);
  const file = query?.code && pictures.get(query.code);
  if (file) query = { file, code: query.code };
  answer = null;
  running?.abort();
  complain("");
  if (!query) {
    results.clear(list);
    for (const id of ["status", "precision", "ties", "latency"]) at(id).textContent = "";
  }
  showQuery();
  run();
}

// ---- problems and the key

function complain(text) {
  at("error").textContent = text;
}

function explain(problem) {
  if (!(problem instanceof api.Problem)) complain(say.failed);
  else complain(problem.message);
  if (problem.status === 401) askKey();
}

function askKey() {
  at("key-button").hidden = false;
  if (!at("key-dialog").open) at("key-dialog").showModal();
}

async function start() {
  try {
    await loadFacts();
    fromAddress();
  } catch (problem) {
    explain(problem);
    if (problem.status === 401) complain(say.noKey);
  }
}

// ---- events

for (const id of ["k", "distance", "label", "rerank"]) at(id).addEventListener("input", takeControls);
at("controls").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["file", "camera"])
  at(id).addEventListener("change", (event) => {
    takeFile(event.target.files[0]);
    event.target.value = "";
  });

const drop = at("drop");
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.toggle("over", drop.contains(event.target));
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  takeFile([...event.dataTransfer.files][0]);
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (!file) return;
  event.preventDefault();
  takeFile(file);
});

list.addEventListener("click", (event) => {
  const button = event.target.closest("button.remove");
  if (button) {
    const dialog = at("remove-dialog");
    dialog.dataset.id = button.dataset.id;
    at("remove-about").textContent = say.removeItem({ id: button.dataset.id });
    dialog.returnValue = "";
    dialog.showModal();
    return;
  }
  const tile = event.target.closest("a.tile");
  if (!tile || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  searchFor({ id: Number(tile.dataset.id) });
  at("query-title").scrollIntoView({ block: "nearest" });
});
for (const name of ["pointerover", "focusin"])
  list.addEventListener(name, (event) => {
    const tile = event.target.closest("a.tile");
    if (tile) compare(tile.dataset.code);
  });
list.addEventListener("keydown", (event) => results.move(list, event));

at("remove-dialog").addEventListener("close", async ({ target }) => {
  if (target.returnValue !== "remove") return;
  try {
    await api.remove(target.dataset.id);
    await loadFacts();
    if (query?.id === Number(target.dataset.id)) searchFor(null);
    else await run();
    at("status").textContent = say.removed(target.dataset.id);
  } catch (problem) {
    explain(problem);
  }
});

at("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!query?.file) return;
  const store = facts.features.store && at("add-store").checked;
  try {
    const added = await api.add(query.file, {
      label: at("add-label").value,
      key: store ? "" : at("add-key").value,
      store: store || "",
    });
    await loadFacts();
    await run();
    at("status").textContent = say.added(added.ids);
  } catch (problem) {
    explain(problem);
  }
});

at("csv").addEventListener("click", () => saving.save("results.csv", "text/csv", saving.csv(answer)));
at("json").addEventListener("click", () =>
  saving.save("results.json", "application/json", saving.json(answer)),
);
at("key-button").addEventListener("click", askKey);
at("key-dialog").addEventListener("close", ({ target }) => {
  if (target.returnValue !== "set") return;
  api.setKey(at("key").value.trim());
  at("key").value = "";
  complain("");
  start();
});
window.addEventListener("popstate", fromAddress);
window.addEventListener("resize", () => compare(null));

start();
