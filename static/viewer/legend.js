/** The legend: a switch for every category, or the ramp of a colour map. */

import { byId, el, swatch, words } from "./dom.js";
import { hasColormap, lookOf, probabilityCategory } from "./result.js";

/** The server's colour maps: evenly spaced colours from the lowest value to the highest, interpolated between. */
export const RAMPS = {
  viridis: [
    "#440154", "#47186a", "#472c7b", "#424085", "#3a528b", "#32628d", "#2c728e", "#26818e", "#20908c",
    "#1e9e88", "#27ad80", "#3dbb74", "#5bc862", "#81d34c", "#aadb32", "#d4e11a", "#fde724",
  ],
  inferno: [
    "#000003", "#0a0723", "#200c4a", "#3c0965", "#570f6d", "#70196e", "#892269", "#a32b61", "#bb3754",
    "#d04544", "#e35832", "#f0701e", "#f98c09", "#fbaa0e", "#f8c931", "#f1e864", "#fcfea4",
  ],
  gray: ["#000000", "#ffffff"],
  terrain: ["#00665e", "#358c4c", "#8cb258", "#decd80", "#ad7f52", "#806054", "#ffffff"],
};

function ramp(task, state) {
  const isProbability = lookOf(task, state) === "probability";
  const [low, high] = isProbability ? ["0 %", "100 %"] : task.range.map(String);
  const title = isProbability ? `Probability of ${words(probabilityCategory(task, state)?.name ?? "").toLowerCase()}` : words(task.name);
  const bar = el("div", { className: "ramp", role: "img", ariaLabel: `${title}: ${low} to ${high}` });
  bar.style.background = `linear-gradient(to right, ${(RAMPS[state.colormap] ?? RAMPS.viridis).join(", ")})`;
  return el("figure", {}, el("figcaption", {}, title), bar, el("p", { className: "ramp-ends" }, el("span", {}, low), el("span", {}, high)));
}

function categories(task, store) {
  const { hidden } = store.state;
  const toggle = (name, shown) => {
    const others = store.state.hidden.filter((other) => other !== name);
    store.set({ hidden: shown ? others : [...others, name] });
  };
  const rows = task.categories.map(({ name, color }) =>
    el(
      "li",
      {},
      el(
        "label",
        { className: "category" },
        el("input", { type: "checkbox", checked: !hidden.includes(name), onchange: ({ target }) => toggle(name, target.checked) }),
        swatch(color),
        el("span", {}, words(name)),
      ),
    ),
  );
  const every = (shown) => () => store.set({ hidden: shown ? [] : task.categories.map(({ name }) => name) });
  return [
    task.categories.length > 3 &&
      el(
        "p",
        { className: "row" },
        el("button", { type: "button", className: "link", onclick: every(true) }, "Show all"),
        el("button", { type: "button", className: "link", onclick: every(false) }, "Hide all"),
      ),
    el("ul", { className: "categories" }, ...rows),
  ].filter(Boolean);
}

/** Draws the legend of the task and keeps the keyboard focus. */
export function drawLegend(task, store) {
  const legend = byId("legend");
  const focused = [...legend.querySelectorAll("input, button")].indexOf(document.activeElement);
  legend.replaceChildren(...(hasColormap(task, store.state) ? [ramp(task, store.state)] : categories(task, store)));
  if (focused >= 0) legend.querySelectorAll("input, button")[focused]?.focus();
}
