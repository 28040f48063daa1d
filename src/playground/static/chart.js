// The two charts.

import { el, number, svg } from "./dom.js";

const WIDTH = 640;

// Histograms of `series` ({label, values}) on one axis, and a mark at `value`.
export function histogram(series, value) {
  const all = series.flatMap((each) => each.values);
  const least = Math.min(...all, value ?? Infinity), most = Math.max(...all, value ?? -Infinity);
  const bins = 50, width = (most - least) / bins || 1, height = 150;
  const counts = series.map(({ values }) => {
    const of = new Array(bins).fill(0);
    for (const each of values) of[Math.min(bins - 1, Math.floor((each - least) / width))] += 1;
    return of;
  });
  const highest = Math.max(...counts.flat()), x = (at) => ((at - least) / (bins * width)) * WIDTH;
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${height + 45}`, role: "img", "aria-label": described(series, value) });
  counts.forEach((of, kind) => of.forEach((count, i) => count && chart.append(svg("rect", {
    class: `series${kind}`, x: (i * WIDTH) / bins + 0.5, width: WIDTH / bins - 1,
    y: 20 + height - (count / highest) * height, height: (count / highest) * height,
  }))));
  chart.append(svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: 20 + height, y2: 20 + height }));
  for (const tick of ticks(least, most)) {
    chart.append(svg("text", { x: x(tick), y: height + 36, "text-anchor": "middle" }, number(tick, 0)));
  }
  if (value !== null) {
    const at = x(value), anchor = at < 90 ? "start" : at > WIDTH - 90 ? "end" : "middle";
    chart.append(
      svg("line", { class: "mark", x1: at, x2: at, y1: 16, y2: 20 + height }),
      svg("text", { class: "mark-text", x: at, y: 11, "text-anchor": anchor }, `this text: ${number(value, 1)}`));
  }
  const legend = el("ul", { class: "legend" }, ...series.map(({ label }, kind) =>
    el("li", {}, el("span", { class: `swatch series${kind}` }), label)));
  return [chart, legend];
}

function described(series, value) {
  const ranges = series.map(({ label, values }) =>
    `${label} from ${number(Math.min(...values), 0)} to ${number(Math.max(...values), 0)}`);
  return `Log-likelihoods in nats: ${ranges.join("; ")}` + (value === null ? "" : `; this text: ${number(value, 1)}`);
}

function ticks(least, most) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000].find((each) => (most - least) / each < 9) ?? 5000;
  const found = [];
  for (let at = Math.ceil(least / step) * step; at <= most; at += step) found.push(at);
  return found;
}

// The entropy of each step ({label, entropy}), with the effective number of choices above it.
export function entropyChart(steps) {
  const height = 90, width = Math.max(26, Math.min(60, WIDTH / 2 / steps.length));
  const highest = Math.max(0.5, ...steps.map((step) => step.entropy));
  const label = steps.map((step) => `${step.label}: entropy ${number(step.entropy, 2)}, ${choices(step.entropy)} choices`);
  const chart = svg("svg", {
    viewBox: `0 0 ${Math.max(WIDTH / 2, width * steps.length)} ${height + 40}`, role: "img", "aria-label": label.join("; "),
  });
  steps.forEach(({ label: name, entropy }, i) => {
    const tall = (entropy / highest) * height, middle = i * width + width / 2;
    chart.append(
      svg("rect", { class: "bar", x: i * width + 3, width: width - 6, y: 16 + height - tall, height: tall }),
      svg("text", { x: middle, y: 12 + height - tall, "text-anchor": "middle" }, choices(entropy)),
      svg("text", { x: middle, y: height + 32, "text-anchor": "middle" }, name.slice(0, Math.floor(width / 7))));
  });
  chart.append(svg("line", { class: "axis", x1: 0, x2: width * steps.length, y1: 16 + height, y2: 16 + height }));
  return chart;
}

export function choices(entropy) {
  const value = Math.exp(entropy);
  return value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}
