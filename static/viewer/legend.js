/** The legend: a switch for every category, or the ramp of a colour map. */

import { byId, el, swatch, words } from "./dom.js";
import { hasColormap, lookOf, probabilityCategory } from "./result.js";

/** Stops of the server's colour maps, evenly spaced. */
export const RAMPS = {
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  inferno: ["#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4"],
  gray: ["#000000", "#ffffff"],
  terrain: ["#2a6f4e", "#7fae5c", "#d9cf8b", "#a5794a", "#ffffff"],
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

/** Draws the legend of the task, keeping the keyboard's place in it. */
export function drawLegend(task, store) {
  const legend = byId("legend");
  const focused = [...legend.querySelectorAll("input, button")].indexOf(document.activeElement);
  legend.replaceChildren(...(hasColormap(task, store.state) ? [ramp(task, store.state)] : categories(task, store)));
  if (focused >= 0) legend.querySelectorAll("input, button")[focused]?.focus();
}
