/** Search by example: places are clicked, and the cells of the imagery that look like them are shown on the map and listed. */

import { BEST, Cells, holds, middleOf, scoreWriter } from "./cells.js";
import { byId, el, plural, swatch, takesText } from "./dom.js";
import { Dots } from "./dots.js";
import { areaOf, canBeWhole, CELL_SIDES_PX, describeIndex, indexOf, isWithin, makeIndex, MOST_FOUND, removeIndex, similarCells } from "./indexes.js";
import { boundsOf } from "./projection.js";
import { Steps } from "./steps.js";

/** Examples of what is searched for, and of what is not: their names, colours and keys. */
const KINDS = {
  positive: { name: "like this", color: "#009e73", key: "1" },
  negative: { name: "unlike this", color: "#d55e00", key: "2" },
};

/** Most examples that the server takes. */
const MOST_EXAMPLES = 256;

/** Cells that are shown at first. */
const SHOWN = 30;

const OTHER = { positive: "negative", negative: "positive" };

const length = (metres) => (metres >= 10_000 ? `${Math.round(metres / 1000).toLocaleString("en")} km` : metres >= 1000 ? `${(metres / 1000).toFixed(1)} km` : `${Math.round(metres)} m`);

const degrees = (value, [positive, negative]) => `${Math.abs(value).toFixed(2)}° ${value < 0 ? negative : positive}`;

const placeText = ([lon, lat]) => `${degrees(lat, "NS")}, ${degrees(lon, "EW")}`;

/** The panel. */
export class Search {
  #examples = new Steps([]);
  #kind = "positive";
  /** The index in use, with what the server says of it. */
  #index = null;
  /** Whether the index is to be of all the imagery, however large. */
  #isWhole = false;
  /** Of what the index is to be. */
  #subject = "";
  #found = [];
  /** Of the search or the job under way. */
  #running = null;

  /**
   * `current` tells the chosen `{ model, source }`, with the model on which heads of the shown one lie. `begins` is called before clicks set
   * examples.
   */
  constructor({ mapView, current, begins }) {
    Object.assign(this, { mapView, current, begins });
    this.cells = new Cells(mapView);
    this.dots = new Dots(mapView, "examples", {
      add: (place, isShifted) => this.#add(place, isShifted ? OTHER[this.#kind] : this.#kind),
      move: (index, place) => this.#step(this.#examples.now.with(index, { ...this.#examples.now[index], place })),
      remove: (index) => this.#step(this.#examples.now.toSpliced(index, 1)),
    });
    byId("similar-cell").replaceChildren(...CELL_SIDES_PX.map((side) => el("option", { value: side })));
    byId("similar-cell").value = 32;
    Object.assign(byId("similar-count"), { min: BEST, max: MOST_FOUND, step: 10, value: SHOWN });
    this.#listen();
    addEventListener("keydown", (event) => this.#press(event));
  }

  get #isOn() {
    return this.dots.isShown;
  }

  #listen() {
    const on = (id, action) => byId(id).addEventListener("click", action);
    on("similar-start", () => this.#turn(!this.#isOn));
    on("similar-undo", () => this.#take("undo"));
    on("similar-redo", () => this.#take("redo"));
    on("similar-clear", () => this.#step([]));
    on("similar-remove", () => this.#removeIndex());
    on("similar-view", () => this.#indexAgain(false));
    on("similar-whole", () => this.#indexAgain(true));
    on("similar-cancel", () => this.#take("undo"));
    byId("similar-count").addEventListener("input", () => this.#drawFound());
    byId("similar-cell").addEventListener("change", () => this.#refresh());
    byId("similar-kinds").addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  /** Follows what is chosen on the page: examples belong to a source, indexes to a source and a model. */
  follow() {
    const { model, source } = this.current();
    byId("similar").hidden = !source;
    if (!source) return;
    for (const option of byId("similar-cell").options) option.textContent = `${option.value} pixels · ${length(option.value * model.native_gsd_m)}`;
    const subject = `${model.id} ${source.id} ${source.version}`;
    if (subject === this.#subject) return;
    const isSameSource = this.#index?.source.id === source.id;
    this.#subject = subject;
    this.#index = null;
    if (!isSameSource) [this.#examples, this.#isWhole] = [new Steps([]), false];
    this.#refresh();
  }

  /** Leaves the map's clicks to others, and takes the cells off the map. */
  stop() {
    if (this.#isOn) this.#turn(false);
  }

  #turn(on) {
    if (on) this.begins();
    this.dots.setShown(on);
    document.body.classList.toggle("searching", on);
    byId("similar-start").setAttribute("aria-expanded", String(on));
    byId("similar-start").querySelector("span").textContent = on ? "Stop searching" : "Search by example";
    byId("similar-body").hidden = !on;
    this.#refresh();
  }

  /** Commands by keys while searching. */
  #press(event) {
    const { key, target, ctrlKey, metaKey, shiftKey, altKey } = event;
    if (!this.#isOn || altKey || takesText(target)) return;
    const letter = key.toLowerCase();
    const isCommand = ctrlKey || metaKey;
    const [kind] = Object.entries(KINDS).find(([, one]) => !isCommand && one.key === key) ?? [];
    if (key === "Escape") {
      this.#turn(false);
      byId("similar-start").focus();
    } else if (kind) this.#choose(kind);
    else if (letter === "y" || (letter === "z" && isCommand && shiftKey)) this.#take("redo");
    else if (letter === "z") this.#take("undo");
    else if (target === this.mapView.map.getCanvas() && (key === "Enter" || key === " ")) this.dots.pressCentre(shiftKey);
    else return;
    event.preventDefault();
  }

  #choose(kind) {
    this.#kind = kind;
    this.#draw();
  }

  #add(place, kind) {
    if (this.#examples.now.length >= MOST_EXAMPLES) return this.#tell(new Error(`There are ${MOST_EXAMPLES} examples, and no more are possible.`));
    this.#step([...this.#examples.now, { kind, place }]);
  }

  #step(examples) {
    this.#examples.take(examples);
    this.#refresh();
  }

  #take(direction) {
    if (this.#examples[direction]()) this.#refresh();
  }

  #placesOf(kind) {
    return this.#examples.now.filter((one) => one.kind === kind).map(({ place }) => place);
  }

  #tell(problem) {
    byId("similar-problem").hidden = !problem;
    byId("similar-problem").textContent = problem ? `${problem.title ? `${problem.title}: ` : ""}${problem.message}` : "";
  }

  /** Searches for what the examples say, once there is an index; the request or job before is of no use any more. */
  async #refresh() {
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    const report = (part) => (byId("similar-progress").textContent = part === null ? "Waiting to read the imagery" : `Reading the imagery: ${Math.round(part * 100)} %`);
    const positive = this.#placesOf("positive");
    if (!this.#isOn || positive.length === 0) this.#found = [];
    this.#tell(null);
    this.#draw();
    if (!this.#isOn || positive.length === 0) return;
    try {
      const index = await this.#ready(report, running.signal);
      const found = await similarCells(index.id, positive, this.#placesOf("negative"), running.signal);
      if (running.signal.aborted) return;
      const places = this.#examples.now.map(({ place }) => place);
      this.#found = found.filter((cell) => cell.geometry && !places.some((place) => holds(cell, place)));
    } catch (problem) {
      if (running.signal.aborted) return;
      this.#found = [];
      this.#tell(problem);
    } finally {
      if (this.#running === running) {
        byId("similar-job").hidden = true;
        this.#draw();
      }
    }
  }

  /** The index for what is chosen, made if the server has none. */
  async #ready(report, signal) {
    const { model, source } = this.current();
    const cellPx = Number(byId("similar-cell").value);
    const places = this.#examples.now.map(({ place }) => place);
    const kept = this.#index;
    const isSame = kept?.model.id === model.id && kept.source.id === source.id && kept.cellPx === cellPx;
    if (isSame && (kept.isWhole || places.every((place) => isWithin(place, kept.bbox)))) return kept;
    this.#index = null;
    // What is in view, and all examples.
    const corners = this.mapView.map.getBounds().toArray();
    const middle = (corners[0][0] + corners[1][0]) / 2;
    // The view may go on beyond 180 degrees, and places are before: they count on the turn that is in view.
    const inView = places.map(([lon, lat]) => [lon + 360 * Math.round((middle - lon) / 360), lat]);
    const view = boundsOf([...corners, ...inView]);
    const wanted = indexOf(model, source, cellPx, areaOf(model, source, view, this.#isWhole));
    let told = await describeIndex(wanted.id);
    signal.throwIfAborted();
    const isNew = !told;
    if (isNew) {
      report(0);
      byId("similar-job").hidden = false;
      told = await makeIndex(wanted, report, signal);
      signal.throwIfAborted();
    }
    this.#index = { ...wanted, rows: told.rows, isNew };
    // Nobody comes back to a view that this page has left.
    if (kept?.isNew && !kept.isWhole) removeIndex(kept.id).catch(() => {});
    return this.#index;
  }

  /** Compares what is in view now, or all of the imagery. */
  #indexAgain(isWhole) {
    this.#isWhole = isWhole;
    const kept = this.#index;
    this.#index = null;
    if (kept?.isNew && !kept.isWhole) removeIndex(kept.id).catch(() => {});
    this.#refresh();
  }

  async #removeIndex() {
    const { id } = this.#index;
    this.#running?.abort();
    this.#index = null;
    this.#examples.take([]);
    this.#found = [];
    this.#draw();
    try {
      await removeIndex(id);
    } catch (problem) {
      this.#tell(problem);
    }
  }

  /** Draws dots, cells, the list and the buttons. */
  #draw() {
    const examples = this.#examples.now;
    this.dots.draw(examples.map(({ kind, place }) => ({ geometry: { type: "Point", coordinates: place }, color: KINDS[kind].color })));
    const { name, color } = KINDS[this.#kind];
    for (const radio of byId("similar-kinds").querySelectorAll("input")) radio.checked = radio.value === this.#kind;
    if (this.#isOn) byId("labelling").replaceChildren(swatch(color), el("span", {}, name), el("span", { className: "quiet" }, "click a place · Esc ends"));
    byId("similar-undo").disabled = !this.#examples.canUndo;
    byId("similar-redo").disabled = !this.#examples.canRedo;
    byId("similar-clear").disabled = examples.length === 0;
    const index = this.#index;
    byId("similar-index").hidden = !index;
    if (index) {
      byId("similar-view").hidden = index.isWhole;
      byId("similar-whole").hidden = index.isWhole || !canBeWhole(index.model, index.source);
      const where = index.isWhole ? `all of “${index.source.title}”` : `a part of “${index.source.title}”`;
      byId("similar-facts").textContent = `${plural(index.rows, "cell")} of ${where}, compared by the features of “${index.model.title}”.`;
    }
    this.#drawFound();
  }

  #drawFound() {
    const shown = this.#isOn ? this.#found.slice(0, Number(byId("similar-count").value)) : [];
    byId("similar-count-value").textContent = byId("similar-count").value;
    byId("similar-count-field").hidden = shown.length === 0;
    this.cells.draw(shown);
    const list = byId("similar-found");
    const write = scoreWriter(shown);
    list.replaceChildren(...shown.slice(0, BEST).map((cell, index) => this.#row(cell, index, write(cell.properties.score))));
    list.hidden = shown.length === 0;
    const [positive, negative] = ["positive", "negative"].map((kind) => this.#placesOf(kind).length);
    const examples = [positive > 0 && `${positive} like this`, negative > 0 && `${negative} unlike this`].filter(Boolean).join(", ");
    const wanted = positive > 0 ? "" : " Click a place like what you look for.";
    const best = shown.length > 0 ? ` ${plural(shown.length, "cell")} shown.` : "";
    const text = `${examples ? `Examples: ${examples}.` : "No examples yet."}${wanted}${best}`;
    // Screen readers read it again whenever it is written.
    if (byId("similar-status").textContent !== text) byId("similar-status").textContent = text;
  }

  /** One of the best cells: a button that goes there, and two that make it an example. */
  #row(cell, index, score) {
    const place = middleOf(cell);
    const number = `Result ${index + 1}`;
    const mark = (chosen) => () => this.cells.choose(chosen ? index : undefined);
    const example = (kind, sign) =>
      el("button", { type: "button", className: "bare", title: `Add as ${KINDS[kind].name}`, ariaLabel: `${number} is ${KINDS[kind].name}`, onclick: () => this.#add(place, kind) }, sign);
    return el(
      "li",
      { onmouseenter: mark(true), onmouseleave: mark(false) },
      el(
        "button",
        { type: "button", className: "found", ariaLabel: `${number}, score ${score}, at ${placeText(place)}: go there`, onclick: () => this.cells.goTo(index), onfocus: mark(true), onblur: mark(false) },
        el("span", { className: "quiet rank" }, String(index + 1)),
        el("strong", {}, score),
        el("span", { className: "quiet" }, placeText(place)),
      ),
      example("positive", "+"),
      example("negative", "−"),
    );
  }
}
