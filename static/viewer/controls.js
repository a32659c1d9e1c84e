/** The form in the panel: shows the state, and changes it. */

import { drawnAs, hasThreshold, looks } from "./catalog.js";
import { byId, bytes, debounced, el, words } from "./dom.js";
import { RAMPS } from "./legend.js";
import { hasColormap, lookOf, probabilityCategory } from "./result.js";
import { withModel } from "./store.js";

const ORIGINS = {
  demo: "Demo",
  registered: "Registered",
  "fine-tuned": "Fine-tuned Satlas models",
  pretrained: "SatlasPretrain",
};

const LOOKS = { mask: "Mask", outlines: "Outlines", probability: "Probability" };

/** What a weights state means to the reader of a map. */
const STATES = { remote: "downloaded on first use", cached: "loaded on first use", loading: "loading", loaded: "loaded" };

const options = (select, entries, value) => {
  select.replaceChildren(...entries);
  select.value = value ?? "";
};

function modelOptions(models) {
  const origins = [...new Set([...Object.keys(ORIGINS), ...models.map(({ origin }) => origin)])];
  return origins.flatMap((origin) => {
    const own = models.filter((model) => model.origin === origin);
    const entries = own.map(({ id, title }) => el("option", { value: id, title: id }, title));
    return own.length > 0 ? [el("optgroup", { label: ORIGINS[origin] ?? words(origin ?? "other") }, ...entries)] : [];
  });
}

/** A task in the list. Tasks that a map cannot show are listed but disabled, so that nobody searches for them. */
const taskOption = (task) =>
  el("option", { value: task.name, disabled: !drawnAs(task) }, `${words(task.name)}${drawnAs(task) ? "" : " (API only)"}`);

function modelFacts({ id, bands, weights, max_images: images }) {
  const names = bands.map(({ name }) => name);
  const facts = [
    id,
    `${names.length} bands: ${names.join(", ")}`,
    images > 1 ? `up to ${images} captures` : "",
    weights?.bytes ? `${bytes(weights.bytes)}, ${STATES[weights.state] ?? weights.state}` : (STATES[weights?.state] ?? ""),
  ];
  return facts.filter(Boolean).join(" · ");
}

/** A source in the list. Sources that are not georeferenced have no tiles and are disabled. */
const sourceOption = ({ id, title, bounds }) =>
  el("option", { value: id, disabled: !bounds }, bounds ? title : `${title} (not georeferenced)`);

function sourceFacts({ bands, crs }) {
  const names = (bands ?? []).map((band) => band.name ?? band);
  return [names.length > 0 ? `${names.length} bands` : "", crs ?? ""].filter(Boolean).join(" · ");
}

/** Fills the form from catalogue and state. */
export function drawControls(catalog, { model, task, source }, state) {
  options(byId("model"), modelOptions(catalog.models), model.id);
  byId("model-facts").textContent = modelFacts(model);
  byId("synthetic").hidden = model.weights?.kind !== "synthetic";
  options(byId("task"), model.tasks.map(taskOption), task?.name);
  options(byId("source"), catalog.sources.map(sourceOption), source?.id);
  byId("source-facts").textContent = source ? sourceFacts(source) : "No imagery yet: start the server with --source, or drop a file here.";
  byId("go-to-source").disabled = !source;
  byId("display").hidden = !task;
  if (task) drawDisplay(task, state);
}

function drawDisplay(task, state) {
  const offered = looks(task);
  byId("look-field").hidden = offered.length < 2;
  for (const radio of byId("look").querySelectorAll("input")) {
    radio.checked = radio.value === lookOf(task, state);
    radio.closest("label").hidden = !offered.includes(radio.value);
  }
  const isProbability = lookOf(task, state) === "probability";
  byId("category-field").hidden = !isProbability || task.categories.length < 2;
  options(byId("category"), task.categories.map(({ name }) => el("option", { value: name }, words(name))), probabilityCategory(task, state)?.name);
  byId("colormap-field").hidden = !hasColormap(task, state);
  byId("colormap").value = state.colormap;
  byId("threshold-field").hidden = !hasThreshold(task) || isProbability;
  byId("threshold-name").textContent = task.type === "bin_segment" ? "Least probability" : "Least score";
  for (const name of ["threshold", "opacity"]) {
    if (document.activeElement !== byId(name)) byId(name).value = state[name];
    byId(`${name}-value`).textContent = `${Math.round(state[name] * 100)} %`;
  }
  byId("imagery").checked = state.imagery;
}

/** Listens to the form. `goToSource` is called when the user asks to see a source. */
export function listenToControls(store, { goToSource }) {
  options(byId("colormap"), Object.keys(RAMPS).map((name) => el("option", { value: name }, words(name))));
  byId("look").replaceChildren(
    ...Object.entries(LOOKS).map(([value, label]) =>
      el("label", {}, el("input", { type: "radio", name: "look", value, onchange: () => store.set({ look: value }) }), el("span", {}, label)),
    ),
  );
  const choose = (id, patch) => byId(id).addEventListener("change", ({ target }) => store.set(patch(target)));
  choose("model", ({ value }) => withModel(value));
  choose("task", ({ value }) => ({ task: value, hidden: [], category: undefined }));
  choose("source", ({ value }) => ({ source: value }));
  choose("category", ({ value }) => ({ category: value }));
  choose("colormap", ({ value }) => ({ colormap: value }));
  choose("imagery", ({ checked }) => ({ imagery: checked }));
  for (const name of ["threshold", "opacity"]) {
    const take = debounced((value) => store.set({ [name]: value }), name === "opacity" ? 0 : 60);
    byId(name).addEventListener("input", ({ target }) => {
      byId(`${name}-value`).textContent = `${Math.round(target.value * 100)} %`;
      take(Number(target.value));
    });
  }
  byId("go-to-source").addEventListener("click", goToSource);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
}
