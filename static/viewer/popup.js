/** The popup of a clicked object or area: category, score, and whatever else the feature says. */

import { Popup } from "../vendor/maplibre-gl/maplibre-gl.mjs";
import { el, swatch, words } from "./dom.js";

/** Properties shown in a form of their own. */
const SPECIAL = new Set(["category", "category_id", "score"]);

/** The description of one feature; shared with the panel of pixel results. */
export function describe(task, properties) {
  const { category, score } = properties;
  const known = task.categories.find(({ name }) => name === category);
  const rows = Object.entries(properties).filter(([key, value]) => !SPECIAL.has(key) && typeof value !== "object");
  return el(
    "div",
    { className: "feature" },
    el("p", { className: "feature-title" }, swatch(known?.color ?? "transparent"), words(category ?? task.name)),
    typeof score === "number" &&
      el(
        "p",
        { className: "feature-score" },
        el("span", {}, "Score"),
        el("meter", { min: 0, max: 1, value: score, ariaLabel: "Score" }),
        el("strong", {}, `${(score * 100).toFixed(1)} %`),
      ),
    rows.length > 0 && el("dl", {}, ...rows.flatMap(([key, value]) => [el("dt", {}, words(key)), el("dd", {}, String(value))])),
  );
}

/** Features without duplicates: one that crosses a tile border is in both tiles. */
function distinct(features) {
  const seen = new Map(features.map((feature) => [JSON.stringify(feature.properties), feature]));
  return [...seen.values()];
}

/** Opens a popup where a feature is clicked, and shows a pointer over features. */
export function addPopups(mapView) {
  const { map } = mapView;
  const popup = new Popup({ maxWidth: "260px", offset: 6 });
  map.on("click", ({ point, lngLat }) => {
    if (mapView.clicksFor) return;
    const [best, ...others] = distinct(mapView.featuresAt(point));
    if (!best) return;
    const content = describe(best.task, best.properties);
    if (others.length > 0) content.append(el("p", { className: "quiet" }, `and ${others.length} more here`));
    popup.setLngLat(lngLat).setDOMContent(content).addTo(map);
  });
  map.on("mousemove", ({ point }) => {
    if (mapView.clicksFor) return;
    map.getCanvas().style.cursor = mapView.featuresAt(point).length > 0 ? "pointer" : "";
  });
  addEventListener("keydown", ({ key }) => key === "Escape" && popup.remove());
  return popup;
}
