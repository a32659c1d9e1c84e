/** How answers look on the map: MapLibre layers and filters for a task and a state. This file does not touch the map. */

const MISSING_COLOR = "#ff00aa";

/** Colour of a feature by its category. */
function colorOf(task) {
  const [first] = task.categories;
  if (task.categories.length <= 1) return first?.color ?? MISSING_COLOR;
  const pairs = task.categories.flatMap(({ name, color }) => [name, color]);
  return ["match", ["get", "category"], ...pairs, MISSING_COLOR];
}

/** Objects are drawn as outlines, areas are filled. */
const isObjects = (task) => task.type === "detect" || task.type === "instance";

/** Line width in pixels: thin at zooms at which a whole object is a few pixels wide. */
const objectLineWidth = ["interpolate", ["linear"], ["zoom"], 14, 0.75, 18, 2, 22, 3];

/** Layers for features with `category` and `score`, under the ids `prefix-fill`, `-casing`, `-line`, `-point`. */
export function featureLayers(prefix, source, task, sourceLayer) {
  const color = colorOf(task);
  const base = { source, ...(sourceLayer ? { "source-layer": sourceLayer } : {}) };
  const line = isObjects(task) ? objectLineWidth : 1;
  // A dark line under the coloured one keeps light boxes visible on light ground.
  const casing = isObjects(task) ? ["interpolate", ["linear"], ["zoom"], 14, 1.5, 18, 4, 22, 5] : 2;
  return [
    { ...base, id: `${prefix}-fill`, type: "fill", paint: { "fill-color": color, "fill-antialias": false } },
    { ...base, id: `${prefix}-casing`, type: "line", paint: { "line-color": "#0b1220", "line-width": casing } },
    { ...base, id: `${prefix}-line`, type: "line", paint: { "line-color": color, "line-width": line } },
    {
      ...base,
      id: `${prefix}-point`,
      type: "circle",
      paint: { "circle-color": color, "circle-radius": 5, "circle-stroke-width": 1.5, "circle-stroke-color": "#0b1220" },
    },
  ];
}

/** Opacities of those layers, as `[suffix, property, value]`. */
export function featureOpacities(task, opacity) {
  return [
    ["fill", "fill-opacity", opacity * (isObjects(task) ? 0.15 : 0.7)],
    ["casing", "line-opacity", opacity * (isObjects(task) ? 0.45 : 0.25)],
    ["line", "line-opacity", opacity],
    ["point", "circle-opacity", opacity],
    ["point", "circle-stroke-opacity", opacity],
  ];
}

/** Filters of those layers, as `[suffix, filter]`: shown categories, scores from the threshold up. */
export function featureFilters(task, { hidden, threshold }) {
  const conditions = [["!", ["in", ["get", "category"], ["literal", hidden]]]];
  if (isObjects(task)) conditions.push([">=", ["coalesce", ["get", "score"], 1], threshold]);
  const of = (type) => ["all", ["==", ["geometry-type"], type], ...conditions];
  return [
    ["fill", of("Polygon")],
    ["casing", of("Polygon")],
    ["line", of("Polygon")],
    ["point", of("Point")],
  ];
}

/** Whether a feature passes the same filters, for the panel of pixel results, which the map does not draw. */
export function isShown(task, { hidden, threshold }, { category, score }) {
  return !hidden.includes(category) && (!isObjects(task) || (score ?? 1) >= threshold);
}
