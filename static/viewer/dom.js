/** Building and finding elements; text only ever enters the page as text, never as markup. */

/** The element with this id, which index.html has. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Keys of `props` that the element has as properties are set as such (`onclick`, `textContent`),
 * the others become attributes; children may be elements or strings, and those that are false or empty are left out.
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key in element && key !== "style") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

/** A colour chip. */
export function swatch(color) {
  const chip = el("span", { className: "swatch", ariaHidden: "true" });
  chip.style.background = color;
  return chip;
}

/** An icon from the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** `tree_crown` as people write it. */
export function words(name) {
  const text = String(name).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A byte count for people. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  const power = count > 0 ? Math.min(Math.floor(Math.log10(count) / 3), units.length - 1) : 0;
  const value = count / 1000 ** power;
  return `${value.toFixed(value < 10 && power > 0 ? 1 : 0)} ${units[power]}`;
}

/** `1 label`, `2 labels`. */
export const plural = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

/** Whether keys pressed there are text for the element and no commands. */
export const takesText = (target) => target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");

/** Calls `action` once `delayMs` have passed without another call. */
export function debounced(action, delayMs) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), delayMs);
  };
}
