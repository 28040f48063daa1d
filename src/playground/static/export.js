// What is seen, as a picture or as numbers.

import { el, svg } from "./dom.js";

export function exportButtons(box, data) {
  const figures = () => [...box.closest("section").querySelectorAll(".figure")];
  const name = () => `playground-${box.dataset.export}`;
  const button = (text, work) => el("button", { type: "button", onclick: work }, text);
  box.append(
    button("Save as SVG", () => download(new Blob([markup(picture(figures()))], { type: "image/svg+xml" }), `${name()}.svg`)),
    button("Save as PNG", async () => download(await png(picture(figures())), `${name()}.png`)),
    button("Save as JSON", () => download(new Blob([JSON.stringify(data(), null, 1)], { type: "application/json" }), `${name()}.json`)));
}

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const markup = (drawing) => new XMLSerializer().serializeToString(drawing);

async function png(drawing) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([markup(drawing)], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = el("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const SIDES = ["Top", "Right", "Bottom", "Left"];

// The elements as they stand on the page, drawn as boxes and text.
export function picture(elements) {
  const boxes = elements.map((each) => each.getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left)) - 8, top = Math.min(...boxes.map((box) => box.top)) - 8;
  const width = Math.max(...boxes.map((box) => box.right)) - left + 8, height = Math.max(...boxes.map((box) => box.bottom)) - top + 8;
  const drawing = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` },
    svg("rect", { width, height, fill: getComputedStyle(document.body).backgroundColor }));
  for (const each of elements) draw(each, drawing, left, top);
  return drawing;
}

function draw(element, drawing, left, top) {
  const style = getComputedStyle(element);
  if (style.display === "none" || style.clipPath !== "none") return;
  if (element instanceof SVGSVGElement) {
    drawing.append(chart(element, left, top));
    return;
  }
  const widths = SIDES.map((side) => parseFloat(style[`border${side}Width`])), isFramed = widths.every(Boolean);
  for (const box of element.getClientRects()) {
    const [x1, y1, x2, y2] = [box.left - left, box.top - top, box.right - left, box.bottom - top];
    if (!isClear(style.backgroundColor) || isFramed) drawing.append(svg("rect", {
      x: x1, y: y1, width: box.width, height: box.height, rx: parseFloat(style.borderTopLeftRadius) || 0,
      fill: isClear(style.backgroundColor) ? "none" : style.backgroundColor,
      stroke: isFramed ? style.borderTopColor : "none", "stroke-width": widths[0],
    }));
    const ends = [[x1, y1, x2, y1], [x2, y1, x2, y2], [x1, y2, x2, y2], [x1, y1, x1, y2]];
    if (!isFramed) widths.forEach((width, i) => width && drawing.append(line(ends[i], style[`border${SIDES[i]}Color`], width)));
  }
  for (const child of element.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) words(child, style, drawing, left, top);
    else if (child.nodeType === Node.ELEMENT_NODE) draw(child, drawing, left, top);
  }
}

const line = ([x1, y1, x2, y2], stroke, width) => svg("line", { x1, y1, x2, y2, stroke, "stroke-width": width });
const isClear = (colour) => /^transparent$|^rgba\(.*, 0\)$|\/ 0\)$/.test(colour);

// Each word by itself, so that lines break where they do on the page.
function words(node, style, drawing, left, top) {
  const underline = node.parentElement.closest(".token") && getComputedStyle(node.parentElement.closest(".token")).textDecoration;
  for (const match of node.data.matchAll(/\S+/g)) {
    const range = document.createRange();
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    drawing.append(svg("text", {
      x: box.left - left, y: box.bottom - top - box.height * 0.24, fill: style.color, "font-size": style.fontSize,
      "font-family": style.fontFamily, "font-weight": style.fontWeight, textLength: box.width, lengthAdjust: "spacingAndGlyphs",
      direction: "ltr",
    }, match[0]));
    const dash = underline && { dotted: "1.5 2", dashed: "5 3", double: "none" }[underline.match(/dotted|dashed|double/)?.[0]];
    if (dash) drawing.append(svg("line", {
      x1: box.left - left, x2: box.right - left, y1: box.bottom - top, y2: box.bottom - top, stroke: style.color,
      "stroke-width": dash === "none" ? 3 : 1.5, "stroke-dasharray": dash,
    }));
  }
}

function chart(element, left, top) {
  const box = element.getBoundingClientRect(), copy = element.cloneNode(true);
  const originals = element.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((each, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of ["fill", "fill-opacity", "stroke", "stroke-width", "font-size", "font-weight", "font-family"]) {
      each.setAttribute(name, style.getPropertyValue(name));
    }
    each.removeAttribute("class");
  });
  copy.setAttribute("overflow", "visible");
  for (const [name, value] of Object.entries({ x: box.left - left, y: box.top - top, width: box.width, height: box.height })) {
    copy.setAttribute(name, value);
  }
  return copy;
}
