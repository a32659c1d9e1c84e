/** The side panel for rasters without a place on the Earth: the picture, and the answer drawn on it in pixel coordinates. */

import { boundsOf, positions } from "./projection.js";
import { byId } from "./dom.js";
import { isShown } from "./layers.js";
import { describe } from "./popup.js";

/** Formats that browsers can show. For other files only the answer is drawn. */
const SHOWABLE = /^image\/(png|jpeg|webp)$/;

/** The size of the canvas if there is no picture: the extent of the features. */
function extent(features) {
  const bounds = boundsOf(features.flatMap(({ geometry }) => [...positions(geometry)]));
  return bounds ? { width: Math.max(Math.ceil(bounds[2]), 1), height: Math.max(Math.ceil(bounds[3]), 1) } : { width: 512, height: 512 };
}

function path({ type, coordinates }) {
  const path2d = new Path2D();
  const polygons = { Polygon: [coordinates], MultiPolygon: coordinates }[type] ?? [];
  for (const ring of polygons.flat()) {
    ring.forEach(([x, y], index) => (index === 0 ? path2d.moveTo(x, y) : path2d.lineTo(x, y)));
    path2d.closePath();
  }
  if (type === "Point") path2d.arc(coordinates[0], coordinates[1], 4, 0, 2 * Math.PI);
  return path2d;
}

/** The one panel; it shows one result at a time. */
export class PixelPanel {
  #shown = null;

  constructor() {
    this.panel = byId("pixels");
    this.canvas = byId("pixels-canvas");
    byId("pixels-close").addEventListener("click", () => this.close());
    this.panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    this.canvas.addEventListener("click", (event) => this.#select(event));
  }

  /** Shows a file with its answer: `features` in pixel coordinates, or `image`, a blob of the raster's size. */
  async open({ title, file, features = [], image, task, key }, state) {
    const picture = SHOWABLE.test(file.type) ? await createImageBitmap(file).catch(() => null) : null;
    const overlay = image ? await createImageBitmap(image) : null;
    const { width, height } = picture ?? overlay ?? extent(features);
    const items = features.map((feature) => ({ properties: feature.properties, path: path(feature.geometry) }));
    this.#shown = { picture, overlay, items, task, key, selected: null };
    Object.assign(this.canvas, { width, height });
    this.canvas.setAttribute("aria-label", `Result of ${title}`);
    byId("pixels-title").textContent = title;
    byId("pixels-size").textContent = `${width} × ${height} px, not georeferenced: coordinates are pixels`;
    this.#tell(null);
    this.panel.hidden = false;
    this.draw(key, state);
    byId("pixels-close").focus();
  }

  /** Hides the panel. */
  close() {
    this.panel.hidden = true;
    this.#shown = null;
  }

  /** Redraws the panel if it shows a result of the task `key`. */
  draw(key, state) {
    if (!this.#shown || this.#shown.key !== key) return;
    this.state = state;
    const { picture, overlay, items, task, selected } = this.#shown;
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    if (picture) context.drawImage(picture, 0, 0);
    context.globalAlpha = state.opacity;
    if (overlay) context.drawImage(overlay, 0, 0, width, height);
    // Lines have the same width on the screen at every scale of the picture.
    const scale = width / (this.canvas.clientWidth || width);
    for (const item of items) {
      if (!isShown(task, state, item.properties)) continue;
      const color = task.categories.find(({ name }) => name === item.properties.category)?.color ?? "#ff00aa";
      context.fillStyle = color;
      context.globalAlpha = state.opacity * (item === selected ? 0.45 : 0.15);
      context.fill(item.path, "evenodd");
      context.globalAlpha = state.opacity;
      for (const [style, lineWidth] of [["#0b1220", 3.5], [color, 1.75]]) {
        context.strokeStyle = style;
        context.lineWidth = lineWidth * scale;
        context.stroke(item.path);
      }
    }
    context.globalAlpha = 1;
  }

  #select({ offsetX, offsetY }) {
    if (!this.#shown) return;
    const { items, task, key } = this.#shown;
    const context = this.canvas.getContext("2d");
    const x = (offsetX / this.canvas.clientWidth) * this.canvas.width;
    const y = (offsetY / this.canvas.clientHeight) * this.canvas.height;
    const hits = items.filter((item) => isShown(task, this.state, item.properties) && context.isPointInPath(item.path, x, y, "evenodd"));
    this.#shown.selected = hits.toSorted((a, b) => (b.properties.score ?? 0) - (a.properties.score ?? 0))[0] ?? null;
    this.#tell(this.#shown.selected);
    this.draw(key, this.state);
  }

  #tell(item) {
    const hint = this.#shown?.items.length ? "Click an object for its category and score." : "";
    byId("pixels-info").replaceChildren(item ? describe(this.#shown.task, item.properties) : hint);
  }
}
