/** The state of the page: read from the URL's fragment, written back to it, and announced when it changes. */

/** Every option at its default; defaults stay out of the URL. */
const DEFAULTS = {
  model: undefined,
  task: undefined,
  source: undefined,
  look: "mask",
  category: undefined,
  colormap: "viridis",
  threshold: 0.5,
  opacity: 0.75,
  hidden: [],
  imagery: true,
  view: undefined,
};

/**
 * Models of the demo whose objects open at another threshold: that of the best F1 on their training image (static/demo/README.md). Of
 * the boxes on the image of trees, 22 of 321 lie on the road at 0.5, and 6 of 140 at 0.7; three of them score more than 0.9.
 */
const OPENING_THRESHOLDS = { trees: 0.7 };

/** The defaults while a model is chosen. */
export const defaultsFor = (model) => ({ ...DEFAULTS, threshold: OPENING_THRESHOLDS[model] ?? DEFAULTS.threshold });

/** What changes with another model: it has other tasks, categories, scores and usually another sensor. Only the view options stay. */
export const withModel = (model) => ({
  ...{ model, task: undefined, source: undefined, hidden: [], category: undefined },
  threshold: defaultsFor(model).threshold,
});

const share = (text) => {
  const value = Number.parseFloat(text);
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), 1) : undefined;
};

const view = (text) => {
  const [zoom, lat, lon] = text.split("/").map(Number);
  return [zoom, lat, lon].every(Number.isFinite) && Math.abs(lat) <= 90 ? { zoom, lat, lon } : undefined;
};

/** How each option is read from the fragment. Values that cannot be read are ignored. */
const READERS = {
  model: String,
  task: String,
  source: String,
  look: (text) => (["mask", "outlines", "probability"].includes(text) ? text : undefined),
  category: String,
  colormap: String,
  threshold: share,
  opacity: share,
  hidden: (text) => text.split(",").filter(Boolean),
  imagery: (text) => text !== "off",
  view,
};

const WRITERS = {
  hidden: (names) => names.join(","),
  imagery: (shown) => (shown ? "on" : "off"),
  view: ({ zoom, lat, lon }) => `${zoom.toFixed(2)}/${lat.toFixed(5)}/${lon.toFixed(5)}`,
};

/** The options a URL fragment states. */
export function readFragment(fragment) {
  const stated = {};
  for (const [key, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const value = READERS[key]?.(text);
    if (value !== undefined) stated[key] = value;
  }
  return stated;
}

const write = (key, value) => (value === undefined ? "" : (WRITERS[key] ?? String)(value));

/** The fragment that states a state, without its defaults. */
export function writeFragment(state) {
  const params = new URLSearchParams();
  const defaults = defaultsFor(state.model);
  for (const [key, value] of Object.entries(state)) {
    const text = write(key, value);
    if (text !== write(key, defaults[key])) params.set(key, text);
  }
  return `#${params.toString().replaceAll("%2F", "/").replaceAll("%2C", ",")}`;
}

/** The state, with an event `change` whose `detail` is the set of keys that changed. */
export class Store extends EventTarget {
  #state;

  constructor(stated) {
    super();
    this.#state = { ...defaultsFor(stated.model), ...stated };
  }

  get state() {
    return this.#state;
  }

  /** Applies the values that differ and announces their keys. */
  set(patch) {
    const changed = Object.keys(patch).filter((key) => JSON.stringify(patch[key]) !== JSON.stringify(this.#state[key]));
    if (changed.length === 0) return;
    this.#state = { ...this.#state, ...patch };
    this.dispatchEvent(new CustomEvent("change", { detail: new Set(changed) }));
  }

  /** Replaces the whole state by what a fragment states. */
  reset(stated) {
    this.set({ ...defaultsFor(stated.model), ...stated });
  }
}
