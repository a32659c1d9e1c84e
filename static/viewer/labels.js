/** Labels of one source: classes and places, with undo and redo, kept in the browser. Nothing here touches the page. */

import { CLASS, readLabelFile } from "./labelfile.js";
import { Steps } from "./steps.js";

/** Most labels and classes that the server takes for a fit. */
const MOST_LABELS = 10_000;
const MOST_CLASSES = 64;

/** Longest name of a class, in UTF-16 units: in no script more bytes than the server takes. */
export const LONGEST_NAME = 60;

/** Colours of new classes that can be told apart with every kind of colour vision, after Okabe and Ito (2008). */
const COLORS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];

/** The golden angle: colours after those have hues far from all before. */
const HUE_STEP_DEG = 137.508;

const channel = (hue, shift) => {
  const value = 0.55 + 0.3 * Math.cos(((hue + shift) * Math.PI) / 180);
  return Math.round(value * 255).toString(16).padStart(2, "0");
};

const colorAt = (index) => COLORS[index] ?? `#${[0, -120, 120].map((shift) => channel(index * HUE_STEP_DEG, shift)).join("")}`;

const nameAt = (index) => `class ${index + 1}`;

/** Names that the page gave and nobody has changed. */
const MADE_UP = /^class \d+$/;

const fresh = () => ({
  classes: [0, 1].map((id) => ({ id, name: nameAt(id), color: colorAt(id) })),
  labels: [],
});

const slot = (source) => `satlas-serve-labels/${source}`;

/** What is wrong with a name for a class beside others, or `""`. */
function flawOf(name, others) {
  if (!name) return "A class needs a name.";
  if (name.length > LONGEST_NAME) return `“${name.slice(0, 20)}…” has ${name.length} characters; at most ${LONGEST_NAME} are possible.`;
  // Addresses list names of classes with commas between them.
  if (name.includes(",")) return `“${name}” has a comma, which the name of a class cannot have.`;
  return others.some((other) => other.name === name) ? `There is a class “${name}” already.` : "";
}

/**
 * The labels of the source in view. Fires `change`. `classes` are `{ id, name, color }`, `labels` are `{ class, geometry }` with the id of
 * a class and a point or polygon.
 */
export class Labels extends EventTarget {
  #steps = new Steps(fresh());
  #source = null;

  /** Id of the class that the next label gets. */
  active = 0;
  /** Ids of models fitted to these labels that the server may still have, the newest last. */
  fitted = [];
  /** Id of the model on which they were fitted. */
  base = null;

  constructor() {
    super();
    addEventListener("storage", ({ key }) => this.#source !== null && key === slot(this.#source) && this.open(this.#source));
  }

  get classes() {
    return this.#steps.now.classes;
  }

  get labels() {
    return this.#steps.now.labels;
  }

  get canUndo() {
    return this.#steps.canUndo;
  }

  get canRedo() {
    return this.#steps.canRedo;
  }

  /** How many labels a class has. */
  count(id) {
    return this.labels.filter((label) => label.class === id).length;
  }

  /** Reads the labels of a source that the browser keeps. */
  open(source) {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(slot(source))) ?? {};
    } catch {
      // Not written by this page.
    }
    const isWhole = Array.isArray(kept.classes) && Array.isArray(kept.labels);
    this.#source = source;
    this.#steps = new Steps(isWhole ? { classes: kept.classes, labels: kept.labels } : fresh());
    this.active = this.classes[0]?.id ?? 0;
    this.fitted = kept.fitted ?? [];
    this.base = kept.base ?? null;
    this.#announce();
  }

  /** Keeps everything in the browser. Throws if it is full. */
  #keep() {
    localStorage.setItem(slot(this.#source), JSON.stringify({ ...this.#steps.now, fitted: this.fitted, base: this.base }));
  }

  /** Remembers models that were fitted to these labels, and on which. */
  remember(base, fitted) {
    Object.assign(this, { base, fitted });
    this.#keep();
  }

  #step(next) {
    this.#steps.take({ ...this.#steps.now, ...next });
    this.#changed();
  }

  #changed() {
    if (!this.classes.some(({ id }) => id === this.active)) this.active = this.classes[0]?.id ?? 0;
    this.#announce();
    this.#keep();
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }

  /** Takes back the last change; false if there is none. */
  undo() {
    const done = this.#steps.undo();
    if (done) this.#changed();
    return done;
  }

  /** Repeats the last change that was taken back; false if there is none. */
  redo() {
    const done = this.#steps.redo();
    if (done) this.#changed();
    return done;
  }

  /** Chooses the class of the next label. */
  choose(id) {
    this.active = id;
    this.#announce();
  }

  /** Adds a class with a name and colour of its own and chooses it. */
  addClass() {
    if (this.classes.length >= MOST_CLASSES) throw new Error(`There are ${MOST_CLASSES} classes, and no more are possible.`);
    const id = this.#nextId(this.classes);
    const names = this.classes.map(({ name }) => name);
    const colors = this.classes.map(({ color }) => color);
    let [name, color] = [this.classes.length, 0];
    while (names.includes(nameAt(name))) name += 1;
    while (colors.includes(colorAt(color))) color += 1;
    this.active = id;
    this.#step({ classes: [...this.classes, { id, name: nameAt(name), color: colorAt(color) }] });
  }

  #nextId(classes) {
    return Math.max(-1, ...classes.map(({ id }) => id)) + 1;
  }

  /** Gives a class another name or colour. Throws an `Error` if the name is none or taken. */
  changeClass(id, change) {
    const flaw = change.name === undefined ? "" : flawOf(change.name, this.classes.filter((one) => one.id !== id));
    if (flaw) throw new Error(flaw);
    this.#step({ classes: this.classes.map((one) => (one.id === id ? { ...one, ...change } : one)) });
  }

  /** Removes a class and its labels. */
  removeClass(id) {
    this.#step({ classes: this.classes.filter((one) => one.id !== id), labels: this.labels.filter((label) => label.class !== id) });
  }

  /** Labels a point `[lon, lat]` with the chosen class. */
  add(coordinates) {
    if (this.labels.length >= MOST_LABELS) throw new Error(`There are ${MOST_LABELS} labels, and no more are possible.`);
    this.#step({ labels: [...this.labels, { class: this.active, geometry: { type: "Point", coordinates } }] });
  }

  /** Moves the label at a position in the list to a point. */
  move(index, coordinates) {
    this.#step({ labels: this.labels.map((label, at) => (at === index ? { ...label, geometry: { type: "Point", coordinates } } : label)) });
  }

  /** Removes the label at a position in the list. */
  remove(index) {
    this.#step({ labels: this.labels.toSpliced(index, 1) });
  }

  /** Removes all labels; the classes stay. */
  clear() {
    this.#step({ labels: [] });
  }

  /** The labels as the server and other programs read them. */
  get geojson() {
    const known = new Map(this.classes.map((one) => [one.id, one]));
    const features = this.labels.map(({ class: id, geometry }) => {
      const { name, color } = known.get(id);
      return { type: "Feature", geometry, properties: { [CLASS]: name, color } };
    });
    return { type: "FeatureCollection", features };
  }

  /** Adds the labels of a GeoJSON file; classes are matched by name. Returns how many there were. Throws an `Error` if it cannot be used. */
  import(text) {
    const features = readLabelFile(text);
    const all = [...this.classes];
    const byName = new Map(all.map((one) => [one.name, one]));
    const added = [];
    for (const { name, places, color } of features) {
      if (!byName.has(name)) {
        const flaw = flawOf(name, []);
        if (flaw) throw new Error(flaw);
        const index = all.length;
        const one = { id: this.#nextId(all), name, color: /^#[0-9a-f]{6}$/i.test(color) ? color : colorAt(index) };
        byName.set(name, one);
        all.push(one);
      }
      added.push(...places.map((geometry) => ({ class: byName.get(name).id, geometry })));
    }
    if (added.length === 0) throw new Error("The file has no features; labelled points or polygons are needed.");
    const labels = [...this.labels, ...added];
    // Classes that the page made up and nobody has used would only be in the way.
    const classes = all.filter(({ id, name }) => !MADE_UP.test(name) || labels.some((label) => label.class === id));
    if (classes.length > MOST_CLASSES) throw new Error(`With the file there are ${classes.length} classes; at most ${MOST_CLASSES} are possible.`);
    if (labels.length > MOST_LABELS) throw new Error(`With the file there are ${labels.length} labels; at most ${MOST_LABELS} are possible.`);
    this.#step({ classes, labels });
    return added.length;
  }
}
