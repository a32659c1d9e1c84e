/** How well fitted heads do on labels that were held out: figures, a table of classes, the confusion matrix and the learning curve as pictures. */

import { byId, el, icon, swatch, words } from "./dom.js";

const percent = (value) => `${Math.round(value * 100)} %`;

const number = (value) => String(Number(value.toPrecision(3)));

/** Figures of all categories together, in the order in which they are shown. Kinds of fits have some of them each. */
const FIGURES = [
  ["accuracy", "Accuracy", percent, "Part of the held-out labels whose likeliest class is right"],
  ["macro_f1", "Macro F1", percent, "Mean over classes of the harmonic mean of precision and recall"],
  ["mean_iou", "Mean IoU", percent, "Mean over classes of the intersection over union"],
  ["calibration_error", "Calibration error", percent, "How far probabilities are from how often they are right, on average"],
  ["mean_absolute_error", "Mean error", number, "Mean of the absolute differences from the held-out labels"],
  ["root_mean_square_error", "RMS error", number, "Root of the mean of the squared differences from the held-out labels"],
  ["r2", "R²", number, "Part of the variance of the held-out labels that is explained"],
];

const COLUMNS = [
  ["labels", "Labels", String],
  ["precision", "Precision", percent],
  ["recall", "Recall", percent],
  ["f1", "F1", percent],
  ["iou", "IoU", percent],
];

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A picture with a caption, whose content `told` says in words. */
const picture = (title, told, width, height, ...children) =>
  el("figure", { className: "picture" }, el("figcaption", {}, title), svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told }, ...children));

/** The figures of a fit, as far as it has them. */
function figures(scores) {
  const known = FIGURES.filter(([key]) => Number.isFinite(scores[key]));
  return el("dl", { className: "figures" }, ...known.map(([key, name, write, meaning]) => el("div", { title: meaning }, el("dt", {}, name), el("dd", {}, write(scores[key])))));
}

function table(categories, colorOf) {
  const columns = COLUMNS.filter(([key]) => categories.every((one) => Number.isFinite(one[key])));
  const head = el("tr", {}, el("th", { scope: "col" }, "Class"), ...columns.map(([, name]) => el("th", { scope: "col" }, name)));
  const rows = categories.map((one) =>
    el("tr", {}, el("th", { scope: "row" }, swatch(colorOf(one.category)), words(one.category)), ...columns.map(([key, , write]) => el("td", {}, write(one[key])))),
  );
  return el("div", { className: "wide-table", tabIndex: 0, role: "group", ariaLabel: "Scores of each class" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

/** What a confusion matrix says, a sentence for each class. */
function confusionInWords(confusion, names) {
  return confusion
    .map((row, is) => {
      const all = row.reduce((sum, count) => sum + count, 0);
      const wrong = row.flatMap((count, taken) => (taken !== is && count > 0 ? [`${count} taken for ${names[taken]}`] : []));
      return `Of ${all} labels of ${names[is]}, ${[`${row[is]} found`, ...wrong].join(", ")}.`;
    })
    .join(" ");
}

/** The confusion matrix: rows are what is there, columns what was predicted, each cell as dark as its part of the row. */
function confusionMatrix(confusion, names, colorOf) {
  const [edge, chip] = [Math.min(34, 260 / names.length), 6];
  const cells = confusion.flatMap((row, y) => {
    const all = row.reduce((sum, count) => sum + count, 0) || 1;
    return row.map((count, x) => {
      const part = count / all;
      const [left, top] = [chip + 2 + x * edge, chip + 2 + y * edge];
      const title = svg("title", {}, `${names[y]}, predicted as ${names[x]}: ${count}`);
      const cell = svg("rect", { x: left, y: top, width: edge - 1, height: edge - 1, class: x === y ? "right" : "wrong", "fill-opacity": part.toFixed(3) }, title);
      // Numbers that would be too small to read are in the titles only.
      if (count === 0 || edge < 16) return [cell];
      return [cell, svg("text", { x: left + edge / 2, y: top + edge / 2, class: part > 0.5 ? "strong" : "" }, String(count))];
    });
  });
  const chips = names.flatMap((name, index) => [
    svg("rect", { x: 0, y: chip + 2 + index * edge, width: chip, height: edge - 1, fill: colorOf(name) }),
    svg("rect", { x: chip + 2 + index * edge, y: 0, width: edge - 1, height: chip, fill: colorOf(name) }),
  ]);
  const side = chip + 2 + names.length * edge;
  const figure = picture("What is there (rows), taken for (columns)", confusionInWords(confusion, names), side, side, ...chips, ...cells.flat());
  figure.querySelector("svg").style.maxWidth = `${side}px`;
  return figure;
}

/** Accuracy and F1 by the number of labels. */
function learningCurve(points) {
  const [width, height, left, bottom] = [280, 110, 30, 18];
  const most = Math.max(...points.map(({ labels }) => labels));
  const x = (labels) => left + (labels / most) * (width - left - 4);
  const y = (value) => 4 + (1 - value) * (height - bottom - 4);
  const line = (key, name) => svg("polyline", { class: name, points: points.map((point) => `${x(point.labels)},${y(point[key])}`).join(" ") });
  const text = (at, top, label, anchor) => svg("text", { x: at, y: top, class: anchor }, label);
  const grid = [0, 0.5, 1].flatMap((value) => [
    svg("line", { x1: left, x2: width - 4, y1: y(value), y2: y(value) }),
    text(left - 4, y(value), percent(value), "end"),
  ]);
  const ends = [text(left, height - 6, "0", "start"), text(width - 4, height - 6, `${most} labels`, "end")];
  const told = points.map(({ labels, accuracy, macro_f1: f1 }) => `${labels} labels: accuracy ${percent(accuracy)}, macro F1 ${percent(f1)}.`).join(" ");
  const figure = picture("Accuracy and macro F1 by labels learnt from", told, width, height, ...grid, ...ends, line("accuracy", "accuracy"), line("macro_f1", "f1"));
  figure.classList.add("curve");
  return figure;
}

const warning = (text) => el("p", { className: "warning" }, text);

/** Everything known about a fit of a task. */
function parts(fit, task) {
  const colorOf = (name) => task?.categories.find((category) => category.name === name)?.color ?? "transparent";
  const { warnings = [], labels, source } = fit;
  const scores = fit.held_out ?? fit.held_out_errors;
  const learnt = el("p", { className: "quiet" }, source ? `Learnt from ${labels} labels on ${source}.` : `Learnt from ${labels} labelled chips.`);
  if (!scores) return [learnt, ...warnings.map(warning)];
  const how = `Measured on labels that were held out, in ${scores.folds} parts at least ${Math.round(scores.apart_px)} pixels apart.`;
  const { categories = [], confusion, learning_curve: curve } = scores;
  const names = categories.map(({ category }) => category);
  return [
    figures(scores),
    el("p", { className: "quiet" }, `${learnt.textContent} ${how}`),
    ...warnings.map(warning),
    names.length > 0 && table(categories, colorOf),
    confusion?.length === names.length && names.length > 0 && confusionMatrix(confusion, names, colorOf),
    curve?.length > 1 && curve.every(({ accuracy }) => Number.isFinite(accuracy)) && learningCurve(curve),
  ].filter(Boolean);
}

/** Shows the scores of a model whose heads were fitted, or nothing for others; with a button that calls `remove` if that is given. */
export function drawScores({ model, task }, remove) {
  const section = byId("scores");
  const shown = model.fit ? `${model.id} ${Boolean(remove)}` : "";
  section.hidden = !model.fit;
  if (section.dataset.shown === shown) return;
  section.dataset.shown = shown;
  const button = remove && el("button", { type: "button", className: "small", onclick: remove }, icon("close"), "Remove this model");
  byId("scores-body").replaceChildren(...(model.fit ? parts(model.fit, task) : []), button ? el("p", { className: "row" }, button) : "");
}
