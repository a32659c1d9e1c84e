/** The requests for a state, in one place, so that the map and the curl commands ask for the same thing. */

import { OBJECT_SCORE_FLOOR, taskTileJson, taskTiles } from "./api.js";
import { drawnAs, hasThreshold, looks } from "./catalog.js";

/** The name of a model's task on the map. */
export const keyOf = ({ model, task }) => `${model.id}/${task.name}`;

/** The look in force: the chosen one where the task has it. */
export const lookOf = (task, state) => (looks(task).includes(state.look) ? state.look : looks(task)[0]);

/** Whether answers are coloured by a colour map instead of category colours. */
export const hasColormap = (task, state) => task.type === "regress" || lookOf(task, state) === "probability";

/** The category whose probability is shown. */
export const probabilityCategory = (task, state) =>
  task.categories.find(({ name }) => name === state.category) ?? task.categories.at(-1);

/** The threshold for a URL, or `undefined` if the server's default or no threshold applies. */
const statedThreshold = (task, state) => (hasThreshold(task) && state.threshold !== 0.5 ? state.threshold : undefined);

/** The categories for a URL, or `undefined` if all are shown. */
function statedCategories(task, state) {
  const shown = task.categories.filter(({ name }) => !state.hidden.includes(name));
  return shown.length < task.categories.length ? shown.map(({ name }) => name).join(",") : undefined;
}

/** Options of an image answer. */
function imageOptions(task, state) {
  const options = {};
  if (hasColormap(task, state)) options.colormap = state.colormap === "viridis" ? undefined : state.colormap;
  if (lookOf(task, state) === "probability")
    return { ...options, render: "probability", category: probabilityCategory(task, state)?.name };
  return { ...options, threshold: statedThreshold(task, state), categories: statedCategories(task, state) };
}

/** Whether every category of a task is hidden, so that no tiles are needed. */
export const showsNothing = (task, state) =>
  lookOf(task, state) !== "probability" &&
  task.categories.length > 0 &&
  task.categories.every(({ name }) => state.hidden.includes(name));

/** The request behind the result on the map: its kind, the template of its tiles, and the path of its TileJSON. */
export function tilesOf({ model, task, source }, state) {
  const kind = lookOf(task, state) === "outlines" ? "vector" : drawnAs(task);
  const [format, options] = {
    raster: ["png", imageOptions(task, state)],
    // Features have category and score, so the page filters them itself without another request.
    vector: ["mvt", { ...VECTOR_SIZE, threshold: task.type === "bin_segment" ? statedThreshold(task, state) : objectFloor(task) }],
    footprint: ["geojson", {}],
  }[kind];
  const params = { source: source.id, ...options };
  const size = kind === "vector" ? VECTOR_SIZE : {};
  return {
    kind,
    tiles: taskTiles(model.id, task.name, format, params),
    tileJson: taskTileJson(model.id, task.name, { source: source.id, ...size }),
  };
}

/** Maps draw a vector tile where four image tiles of 256 px lie; with 512 px both have the same resolution. */
const VECTOR_SIZE = { tilesize: 512 };

const objectFloor = (task) => (hasThreshold(task) ? OBJECT_SCORE_FLOOR : undefined);

/** The request for an uploaded raster: features where the task has them, else an image. */
export function uploadOptions(task, state) {
  if (!task.formats.includes("geojson")) return { format: "png", ...imageOptions(task, state) };
  const threshold = task.type === "bin_segment" ? statedThreshold(task, state) : objectFloor(task);
  return { format: "geojson", threshold };
}

/** The tile template and the TileJSON for what is shown, with the page's own filters as parameters, for use without this page. */
export function sharedTiles({ model, task, source }, state) {
  const { kind } = tilesOf({ model, task, source }, state);
  const filters = { threshold: statedThreshold(task, state), categories: statedCategories(task, state) };
  const [format, options] = {
    raster: ["png", imageOptions(task, state)],
    vector: ["mvt", { ...VECTOR_SIZE, ...filters }],
    footprint: ["geojson", filters],
  }[kind];
  const params = { source: source.id, ...options };
  return {
    kind,
    format,
    path: taskTiles(model.id, task.name, format, params),
    tileJson: taskTileJson(model.id, task.name, { format, ...params }),
  };
}
