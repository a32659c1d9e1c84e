/** The list of classes in the panel: choose, name, colour, remove. */

import { byId, el, icon } from "./dom.js";
import { LONGEST_NAME } from "./labels.js";

/** Classes that have a key of their own: 1 to 9. */
const MOST_KEYS = 9;

/** The class that a key chooses, if any. */
export const classOfKey = (classes, key) => (/^[1-9]$/.test(key) ? classes[Number(key) - 1] : undefined);

/** One class: a radio button with its key, colour, name, number of labels, and a button that removes it. */
function row(labels, { id, name, color }, index, attempt) {
  const key = index < MOST_KEYS ? String(index + 1) : "";
  const control = (part, props) => el("input", { "data-control": `${part}-${id}`, ...props });
  const rename = ({ target }) => {
    if (!attempt(() => labels.changeClass(id, { name: target.value.trim() }))) target.value = name;
  };
  const leave = (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    if (event.key === "Escape") event.target.value = name;
    event.target.blur();
  };
  return el(
    "div",
    { className: `class${id === labels.active ? " active" : ""}` },
    el(
      "label",
      { className: "class-choice" },
      control("choose", {
        type: "radio",
        name: "class",
        checked: id === labels.active,
        ariaLabel: `Label as ${name}${key && `, key ${key}`}`,
        onchange: () => labels.choose(id),
      }),
      el("kbd", { ariaHidden: "true" }, key),
    ),
    control("color", { type: "color", value: color, ariaLabel: `Colour of ${name}`, onchange: ({ target }) => attempt(() => labels.changeClass(id, { color: target.value })) }),
    control("name", { type: "text", value: name, maxLength: LONGEST_NAME, ariaLabel: `Name of class ${index + 1}`, autocomplete: "off", onchange: rename, onkeydown: leave }),
    el("span", { className: "quiet count", title: "Labels" }, String(labels.count(id))),
    el(
      "button",
      {
        type: "button",
        className: "bare",
        ariaLabel: `Remove ${name} and its labels`,
        title: "Remove the class and its labels",
        disabled: labels.classes.length === 1,
        onclick: () => attempt(() => labels.removeClass(id)),
      },
      icon("close"),
    ),
  );
}

/** Draws the classes and keeps the keyboard focus. `attempt` runs a change and tells the user if it is not possible. */
export function drawClasses(labels, attempt) {
  const list = byId("classes");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.control : undefined;
  list.replaceChildren(...labels.classes.map((one, index) => row(labels, one, index, attempt)));
  if (focused) list.querySelector(`[data-control="${focused}"]`)?.focus();
}

/** Puts the cursor into the name of a class. */
export function editName(id) {
  byId("classes").querySelector(`[data-control="name-${id}"]`)?.select();
}
