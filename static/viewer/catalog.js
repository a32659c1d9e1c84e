/** The models and sources of the server, in the form that the rest of the page uses. */

import { getJson } from "./api.js";

/** Distinct hues for categories to which the server gives no colour. */
const FALLBACK_COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22"];

/** What the page opens with: the demo bundle's most telling task. */
const FIRST_CHOICE = { model: "world", task: "coast", source: "world" };

const hex = ([r, g, b]) => `#${[r, g, b].map((value) => value.toString(16).padStart(2, "0")).join("")}`;

function category(entry, index, colors) {
  const given = typeof entry === "string" ? { name: entry } : entry;
  const color = given.color ?? colors?.[index] ?? FALLBACK_COLORS[index % FALLBACK_COLORS.length];
  return { id: given.id ?? index, name: given.name, color: Array.isArray(color) ? hex(color) : color };
}

function task(entry) {
  const type = entry.type.replaceAll("-", "_");
  const all = (entry.categories ?? []).map((one, index) => category(one, index, entry.colors));
  const isObjects = type === "detect" || type === "instance";
  // Class 0 is "nothing here" in these tasks: the server never draws it, so the legend does not list it.
  const hidesFirst = entry.background_invalid || (isObjects && all[0]?.name === "background");
  return {
    name: entry.name,
    type,
    categories: hidesFirst ? all.filter(({ id }) => id !== 0) : all,
    formats: entry.formats ?? [],
    range: entry.value_range ?? (entry.name === "tree_cover" ? [0, 200] : [0, 255]),
  };
}

/** How a task's answers reach the map: as image tiles, vector tiles, footprints, or not at all (`null`). */
export function drawnAs(task) {
  const has = (format) => task.formats.includes(format);
  switch (task.type) {
    case "segment":
    case "bin_segment":
    case "regress":
      return has("png") ? "raster" : null;
    case "detect":
    case "instance":
      return has("mvt") ? "vector" : null;
    case "classification":
    case "multi_label_classification":
      return has("geojson") ? "footprint" : null;
    default:
      return null;
  }
}

/** The ways a task can be looked at, the default first. */
export function looks(task) {
  if (task.type !== "segment" && task.type !== "bin_segment") return ["mask"];
  return ["mask", ...(task.formats.includes("mvt") ? ["outlines"] : []), "probability"];
}

/** Whether a score or probability threshold means anything to a task. */
export const hasThreshold = (task) => ["bin_segment", "detect", "instance"].includes(task.type);

/** All models, which the server lists in pages. */
async function loadModels() {
  const models = [];
  for (let query = ""; ; ) {
    const page = await getJson(`v1/models${query}`);
    models.push(...page.models);
    if (!page.next) return models;
    query = `?after=${encodeURIComponent(page.next)}`;
  }
}

/** Models and sources of the server. */
export async function loadCatalog() {
  const [models, { sources }] = await Promise.all([loadModels(), getJson("v1/sources")]);
  return {
    models: models.map((model) => ({ ...model, title: model.title ?? model.id, tasks: model.tasks.map(task) })),
    sources: sources.map((source) => ({ ...source, title: source.title ?? source.id })),
  };
}

/** How many times the pixels of a source are larger or smaller than those a model was trained on; 1 where either is unknown. */
export function scaleRatio(model, source) {
  const ratio = source?.resolution_m / model?.native_gsd_m;
  return Number.isFinite(ratio) && ratio > 0 ? Math.max(ratio, 1 / ratio) : 1;
}

/** What a state names and the server does not have, as one sentence; `null` if it has all of it. */
export function missing(catalog, { model, task, source }, found) {
  const absent = [
    model && model !== found.model?.id && `model “${model}”`,
    task && (!model || model === found.model?.id) && task !== found.task?.name && `task “${task}” of ${found.model?.id}`,
    source && source !== found.source?.id && `imagery “${source}”`,
  ].filter(Boolean);
  if (absent.length === 0) return null;
  const shown = [found.model?.title, found.source?.title].filter(Boolean).join(" on ");
  return `This server has no ${absent.join(" and no ")} that the map can show. You see ${shown} instead.`;
}

/**
 * The model, task and source that a state names. Missing or unknown names are replaced by a choice: for the source, the one
 * with the model's name, as in the demo bundle, else the one whose pixels are nearest in size to those the model was trained on.
 */
export function resolve(catalog, wanted) {
  const find = (list, key, name) => list.find((entry) => entry[key] === name);
  const known = [wanted.model, FIRST_CHOICE.model].map((id) => find(catalog.models, "id", id));
  const model = known.find(Boolean) ?? catalog.models[0];
  const drawable = model?.tasks.filter((one) => drawnAs(one)) ?? [];
  const preferred = model?.id === FIRST_CHOICE.model ? FIRST_CHOICE.task : undefined;
  const task = find(drawable, "name", wanted.task) ?? find(drawable, "name", preferred) ?? drawable[0];
  const placed = catalog.sources.filter(({ bounds }) => bounds);
  const nearest = placed.toSorted((a, b) => scaleRatio(model, a) - scaleRatio(model, b))[0];
  const source = find(placed, "id", wanted.source) ?? find(placed, "id", model?.id) ?? nearest;
  return { model, task, source };
}
