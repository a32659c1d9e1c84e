/** Teaching: places are labelled on the map, a head is fitted to them, its map is shown, and the next fit takes its place. */

import { classOfKey, drawClasses, editName } from "./classes.js";
import { byId, el, plural, swatch, takesText } from "./dom.js";
import { Dots } from "./dots.js";
import { fitModel, removeModel, suggestedPlaces } from "./fit.js";
import { common } from "./indexes.js";
import { Labels } from "./labels.js";
import { drawScores } from "./scores.js";

/** The panel. */
export class Teach {
  #labels = new Labels();
  #running = null;
  #source = null;

  /**
   * `current` tells the chosen `{ model, task, source }` and the `catalog`. `showModel` shows a model by its id, or without one the first
   * choice, and resolves once that is on the map; `reload` reads the catalogue again. `begins` is called before clicks set labels.
   */
  constructor({ mapView, current, showModel, reload, begins }) {
    Object.assign(this, { mapView, current, showModel, reload, begins });
    const change = (action) => (...given) => this.#attempt(() => action(...given));
    this.dots = new Dots(mapView, "labels", {
      add: change((place) => this.#labels.add(place)),
      move: change((index, place) => this.#labels.move(index, place)),
      remove: change((index) => this.#labels.remove(index)),
    });
    this.#labels.addEventListener("change", () => this.#draw());
    this.#listenToButtons(change);
    addEventListener("keydown", (event) => this.#press(event));
  }

  get #isOn() {
    return this.dots.isShown;
  }

  #listenToButtons(change) {
    const labels = this.#labels;
    const on = (id, action) => byId(id).addEventListener("click", action);
    on("teach-start", () => this.#turn(!this.#isOn));
    on("teach-undo", change(() => labels.undo()));
    on("teach-redo", change(() => labels.redo()));
    on("teach-clear", change(() => labels.clear()));
    on("teach-suggest", () => this.#suggest());
    on("teach-export", () => this.#export());
    on("teach-import", () => byId("teach-file").click());
    on("teach-fit", () => (this.#running ? this.#running.abort() : this.#fit()));
    on("class-add", () => this.#attempt(() => labels.addClass()) && editName(labels.active));
    byId("teach-file").addEventListener("change", async ({ target }) => {
      const text = await target.files[0].text();
      target.value = "";
      this.#attempt(() => labels.import(text));
    });
  }

  /** Follows what is chosen on the page: labels belong to a source, scores to a model. */
  follow(selection) {
    const { model, source } = selection;
    const isOwn = this.#labels.fitted.includes(model.id);
    byId("teach").hidden = !source;
    if (source && source.id !== this.#source) {
      this.#running?.abort();
      this.#source = source.id;
      this.dots.suggest([]);
      this.#tell(null);
      this.#labels.open(source.id);
    }
    drawScores(selection, isOwn ? () => this.#remove(model.id) : null);
    this.#draw();
  }

  /** The model on which a head would be put: the shown one, or where that is fitted itself, its own base if this page knows it. */
  get base() {
    const { model } = this.current();
    if (!model.fit) return model.id;
    return this.#labels.fitted.includes(model.id) ? this.#labels.base : null;
  }

  /** Leaves the map's clicks to others. */
  stop() {
    if (this.#isOn) this.#turn(false);
  }

  #turn(on) {
    if (on) this.begins();
    this.dots.setShown(on);
    document.body.classList.toggle("teaching", on);
    byId("teach-start").setAttribute("aria-expanded", String(on));
    byId("teach-start").querySelector("span").textContent = on ? "Stop labelling" : "Label places";
    byId("teach-body").hidden = !on;
    this.#draw();
  }

  /** Commands by keys while labelling. */
  #press(event) {
    const { key, target, ctrlKey, metaKey, shiftKey, altKey } = event;
    if (!this.#isOn || altKey || takesText(target)) return;
    const letter = key.toLowerCase();
    const isCommand = ctrlKey || metaKey;
    const chosen = isCommand ? undefined : classOfKey(this.#labels.classes, key);
    if (key === "Escape") {
      this.#turn(false);
      byId("teach-start").focus();
    }
    else if (chosen) this.#labels.choose(chosen.id);
    else if (letter === "y" || (letter === "z" && isCommand && shiftKey)) this.#attempt(() => this.#labels.redo());
    else if (letter === "z") this.#attempt(() => this.#labels.undo());
    else if (target === this.mapView.map.getCanvas() && (key === "Enter" || key === " ")) this.dots.pressCentre();
    else return;
    event.preventDefault();
  }

  /** Runs a change of the labels. False, and a message, if it is not possible. */
  #attempt(action) {
    try {
      action();
      this.#tell(null);
      return true;
    } catch (error) {
      this.#tell(error.name === "QuotaExceededError" ? new Error("The browser has no room to keep the labels; export them.") : error);
      return false;
    }
  }

  #tell(problem) {
    byId("teach-problem").hidden = !problem;
    byId("teach-problem").textContent = problem ? `${problem.title ? `${problem.title}: ` : ""}${problem.message}` : "";
  }

  /** Draws dots, classes and buttons. */
  #draw() {
    const labels = this.#labels;
    const colors = new Map(labels.classes.map(({ id, color }) => [id, color]));
    this.dots.draw(labels.labels.map(({ class: id, geometry }) => ({ geometry, color: colors.get(id) })));
    drawClasses(labels, (action) => this.#attempt(action));
    const active = labels.classes.find(({ id }) => id === labels.active);
    const used = labels.classes.filter(({ id }) => labels.count(id) > 0).map(({ id, name }) => `${labels.count(id)} ${name}`);
    const all = labels.labels.length > 0 ? `${plural(labels.labels.length, "label")}: ${used.join(", ")}.` : "No labels yet.";
    const text = `${all} Next: ${active?.name ?? ""}.`;
    // Screen readers read it again whenever it is written.
    if (byId("teach-status").textContent !== text) byId("teach-status").textContent = text;
    byId("labelling").replaceChildren(swatch(active?.color), el("span", {}, active?.name ?? ""), el("span", { className: "quiet" }, "click a place · Esc ends"));
    byId("teach-undo").disabled = !labels.canUndo;
    byId("teach-redo").disabled = !labels.canRedo;
    for (const id of ["teach-export", "teach-clear"]) byId(id).disabled = labels.labels.length === 0;
    this.#drawFit();
  }

  #drawFit() {
    const base = this.base;
    const { catalog, model, source } = this.current();
    byId("teach-suggest").disabled = !this.#labels.fitted.includes(model.id);
    const title = catalog.models.find(({ id }) => id === base)?.title;
    byId("teach-base").textContent = title
      ? `A head on “${title}” learns from these labels and ${source?.title}.`
      : "The chosen model was fitted itself; choose another to put a head on.";
    byId("teach-fit").disabled = !title || (this.#labels.labels.length === 0 && !this.#running);
    if (!this.#running) byId("teach-fit").textContent = this.#labels.fitted.length > 0 ? "Fit again and show the map" : "Fit and show the map";
  }

  async #fit() {
    const labels = this.#labels;
    const { catalog, source } = this.current();
    const [base, previous] = [this.base, labels.fitted];
    const button = byId("teach-fit");
    let fitted = previous;
    const remember = () => labels.remember(base, fitted);
    const running = new AbortController();
    // At once: the labels of another source may come next.
    running.signal.addEventListener("abort", remember);
    this.#running = running;
    this.#tell(null);
    const report = (part) => (button.textContent = part === null ? "Waiting · cancel" : `Fitting ${Math.round(part * 100)} % · cancel`);
    report(0);
    try {
      const taken = [...catalog.models.map(({ id }) => id), ...previous];
      const claim = (id) => labels.remember(base, [...previous, id]);
      const id = await fitModel({ base, source: source.id, labels, taken, claim, report, signal: running.signal });
      fitted = [...previous, id];
      await this.showModel(id);
      for (const old of previous) await removeModel(old);
      if (running.signal.aborted) return;
      fitted = [id];
      remember();
      if (previous.length > 0) await this.reload();
    } catch (problem) {
      if (running.signal.aborted) return;
      remember();
      this.#tell(problem);
    } finally {
      this.#running = null;
      this.#draw();
    }
  }

  /** Shows places in view that the shown model is unsure of. */
  async #suggest() {
    const { model, source } = this.current();
    const bbox = common([-180, -85, 180, 85], this.mapView.map.getBounds().toArray().flat());
    const button = byId("teach-suggest");
    button.setAttribute("aria-busy", "true");
    try {
      const places = await suggestedPlaces(model.id, source.id, bbox);
      if (this.#source !== source.id) return;
      this.dots.suggest(places);
      this.#tell(places.length > 0 ? null : new Error("There is no place in view that the model is unsure of."));
    } catch (problem) {
      this.#tell(problem);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  async #remove(id) {
    try {
      await removeModel(id);
      const { base, fitted } = this.#labels;
      this.#labels.remember(base, fitted.filter((other) => other !== id));
      await this.showModel(base);
    } catch (problem) {
      this.#tell(problem);
    }
  }

  #export() {
    const file = new Blob([JSON.stringify(this.#labels.geojson, null, 1)], { type: "application/geo+json" });
    const link = el("a", { href: URL.createObjectURL(file), download: `labels-${this.#source}.geojson` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}
