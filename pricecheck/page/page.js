"use strict";
// Whatever Keepa wrote comes in by textContent or as an attribute, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24;
const DAY = 24 * 60;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DASHES = ["none", "7 3", "2 3", "9 3 2 3"];
const byId = (id) => document.getElementById(id);
const list = byId("list");

const products = data.products.map((row, place) => {
  const [asin, domain, title, price, week, target, checked, average, facts, series] = row;
  let lines;
  return {
    place, asin, domain, title, price, week, target, checked, average, facts,
    market: data.markets[domain],
    sought: `${title} ${asin}`.toLowerCase(),
    get lines() { // unpacked when it is drawn
      lines ??= series.map(([type, ...flat]) => ({ type, points: unpacked(flat), shown: true }));
      return lines;
    },
  };
});

function unpacked(flat) {
  const points = [];
  for (let i = 0, minute = 0; i < flat.length; i += 2) {
    minute += flat[i];
    points.push([minute, flat[i + 1]]);
  }
  return points;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function money(minor, market) {
  if (minor === null || minor === undefined) return "no offer";
  const figure = (minor / 10 ** market.digits).toLocaleString("en-GB", {
    minimumFractionDigits: market.digits, maximumFractionDigits: market.digits,
  });
  return market.sign + figure;
}

function day(minute) {
  const date = new Date(data.begin + minute * 60000);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
}

function moment(minute) {
  const date = new Date(data.begin + minute * 60000);
  return `${day(minute)} ${date.getUTCFullYear()}, ${date.toISOString().slice(11, 16)}`;
}

function change(percent) {
  const sign = percent < 0 ? "\u25bc" : percent > 0 ? "\u25b2" : "";
  return `${sign} ${Math.abs(percent).toFixed(1)} %`.trim();
}

// The search.

let found = [];
let drawn = 0;

function nearness(product) {
  return product.target && product.price !== null ? product.price / product.target : Infinity;
}

const amount = (product) => (product.price === null ? NaN : product.price / 10 ** product.market.digits);
const last = (a, b, ascending = 1) =>
  Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : (a - b) * ascending;
const week = (product) => (product.week === null ? NaN : product.week);
const ORDERS = [
  (a, b) => a.place - b.place,
  (a, b) => last(week(a), week(b)),
  (a, b) => last(week(a), week(b), -1),
  (a, b) => a.title.localeCompare(b.title),
  (a, b) => last(amount(a), amount(b)),
  (a, b) => last(amount(a), amount(b), -1),
  (a, b) => (nearness(a) < nearness(b) ? -1 : nearness(a) > nearness(b) ? 1 : a.place - b.place),
];

function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const market = byId("market").value;
  found = products
    .filter((each) => !market || each.domain === market)
    .filter((each) => words.every((word) => each.sought.includes(word)))
    .sort(ORDERS[Number(byId("order").value)]);
  list.replaceChildren();
  drawn = 0;
  more();
}

function more() {
  const next = found.slice(drawn, drawn + PAGE).map(card);
  drawn += next.length;
  list.append(...next);
  const left = found.length - drawn;
  byId("more").hidden = !left;
  byId("more").textContent = `Show ${Math.min(PAGE, left)} more of ${left.toLocaleString("en-GB")}`;
  const all = `${products.length.toLocaleString("en-GB")} ${products.length === 1 ? "product" : "products"}`;
  byId("count").textContent =
    found.length === products.length ? all : `${found.length.toLocaleString("en-GB")} of ${all}`;
  return next[0];
}

// A product.

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      entry.target.draw();
      resized.observe(entry.target);
    }
  }
}, { rootMargin: "400px" });
const resized = new ResizeObserver((entries) => {
  for (const entry of entries) if (entry.target.drawnWidth !== entry.target.clientWidth) entry.target.draw();
});

function card(product) {
  const name = `p-${product.domain}-${product.asin}`;
  const title = element("h3", { id: `${name}-title` }, element("a", {
    href: `https://www.amazon.${product.market.tld}/dp/${product.asin}`, rel: "noreferrer",
  }, product.title || product.asin));
  const head = element("p", { class: "head" }, element("span", { class: "price" }, money(product.price, product.market)));
  if (product.week !== null) {
    const kind = product.week < 0 ? "good" : product.week > 0 ? "bad" : "";
    head.append(element("span", { class: kind }, product.week ? change(product.week) : "unchanged"), " in a week");
  }
  const facts = element("dl");
  const fact = (term, text) => facts.append(element("div", {}, element("dt", {}, term), element("dd", {}, text)));
  const main = product.lines.find((line) => line.type === "NEW") || product.lines.find((line) => line.type === "AMAZON");
  const prices = main ? main.points.map((point) => point[1]).filter((price) => price !== null) : [];
  if (prices.length) {
    fact(`Lowest, ${data.span}`, money(Math.min(...prices), product.market));
    fact("Highest", money(Math.max(...prices), product.market));
  }
  if (product.average) fact("90-day average", money(product.average, product.market));
  if (product.target) {
    const reached = product.price !== null && product.price <= product.target;
    fact("Target", money(product.target, product.market) + (reached ? ", reached" : ""));
  }
  const article = element("article", { id: name, "aria-labelledby": `${name}-title`, tabindex: "-1" },
    title, element("span", { class: "under" }, [product.domain, product.asin, ...product.facts].join(" \u00b7 ")),
    head, facts);
  if (product.lines.length) article.append(...chart(product, name));
  return element("li", {}, article);
}

// A chart.

function style(type) {
  const place = data.order.indexOf(type);
  // The list price is what nobody pays: the eighth has a dash as well.
  const dash = place === 7 ? 1 : Math.floor((place + 8) / 8) % 4;
  return { class: `step c${place % 8}`, "stroke-dasharray": DASHES[place < 7 ? 0 : dash] };
}

function chart(product, name) {
  const types = element("ul", { class: "types", "aria-label": "Price types in the chart" });
  const plot = element("div", {
    class: "plot", tabindex: "0", role: "img",
    "aria-label": `${described(product)} Left and right arrow keys step through the changes.`,
  });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const redraw = () => { if (plot.drawnWidth) plot.draw(); };
  for (const line of product.lines) {
    const sample = shape("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    sample.append(shape("path", { d: "M0 4H26", ...style(line.type) }));
    const button = element("button", { type: "button", "aria-pressed": "true" }, sample, data.labels[line.type]);
    button.addEventListener("click", () => {
      line.shown = !line.shown;
      button.setAttribute("aria-pressed", String(line.shown));
      redraw();
    });
    types.append(element("li", {}, button));
  }
  const state = { at: null };
  plot.draw = () => draw(plot, product, state, readout);
  const times = [...new Set(product.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") state.at = null;
    else if (!step) return;
    else {
      const from = state.at === null ? Infinity : state.at;
      const next = step < 0 ? times.filter((time) => time < from).pop() : times.find((time) => time > from);
      state.at = next === undefined ? (step < 0 ? times[0] : null) : next;
    }
    event.preventDefault();
    redraw();
  });
  const point = (event) => {
    if (!plot.inner) return;
    const share = (event.clientX - plot.getBoundingClientRect().left - plot.left) / plot.inner;
    state.at = Math.round(Math.min(1, Math.max(0, share)) * data.end);
    redraw();
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => { state.at = null; redraw(); });
  seen.observe(plot);
  return [types, plot, readout, table(product, name)];
}

function described(product) {
  const now = product.lines.map((line) => `${data.labels[line.type]} ${money(line.points.at(-1)[1], product.market)}`);
  return `Price chart of ${product.title || product.asin}, ${day(0)} to ${day(data.end)}. Last: ${now.join(", ")}.`;
}

function priceAt(points, minute) {
  let price = null;
  for (const point of points) {
    if (point[0] > minute) break;
    price = point[1];
  }
  return price;
}

function scale(product) {
  const prices = product.lines.filter((line) => line.shown)
    .flatMap((line) => line.points.map((point) => point[1])).filter((price) => price !== null);
  if (product.target && prices.length) prices.push(product.target);
  if (!prices.length) return null;
  let low = Math.min(...prices);
  let high = Math.max(...prices);
  const room = (high - low) * 0.08 || high * 0.05 || 1;
  low = Math.max(0, low - room);
  high += room;
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
  return { low, high, ticks, digits: step < 10 ** product.market.digits ? product.market.digits : 0 };
}

function days(width) {
  const most = Math.max(2, Math.floor(width / 60));
  const step = [1, 2, 3, 7, 14, 30, 61, 91, 182, 365, 730].find((each) => data.end / DAY / each <= most) || 1461;
  const first = (DAY - (data.begin / 60000) % DAY) % DAY;
  const ticks = [];
  for (let tick = first; tick <= data.end; tick += step * DAY) ticks.push(tick);
  return ticks;
}

function draw(plot, product, state, readout) {
  const width = plot.clientWidth;
  const height = plot.clientHeight;
  plot.drawnWidth = width;
  const y = scale(product);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (y === null) svg.append(shape("text", { x: 8, y: 24 }, "All price types are hidden."));
  else {
    const major = 10 ** product.market.digits;
    const text = (price) => product.market.sign + (price / major).toLocaleString("en-GB", {
      minimumFractionDigits: y.digits, maximumFractionDigits: y.digits,
    });
    plot.left = 10 + 7 * Math.max(...y.ticks.map((tick) => text(tick).length), 1);
    const right = width - 6;
    const bottom = height - 22;
    plot.inner = right - plot.left;
    const px = (minute) => plot.left + (minute / data.end) * plot.inner;
    const py = (price) => 6 + ((y.high - price) / (y.high - y.low)) * (bottom - 6);
    for (const tick of y.ticks) {
      svg.append(shape("line", { class: "grid", x1: plot.left, x2: right, y1: py(tick), y2: py(tick) }));
      svg.append(shape("text", { x: plot.left - 6, y: py(tick) + 4, "text-anchor": "end" }, text(tick)));
    }
    svg.append(shape("line", { class: "axis", x1: plot.left, x2: right, y1: bottom, y2: bottom }));
    for (const tick of days(plot.inner)) {
      svg.append(shape("line", { class: "axis", x1: px(tick), x2: px(tick), y1: bottom, y2: bottom + 4 }));
      const near = px(tick) > right - 20 ? "end" : "middle";
      svg.append(shape("text", { x: px(tick), y: height - 4, "text-anchor": near }, day(tick)));
    }
    if (product.target) {
      svg.append(shape("line", { class: "target", x1: plot.left, x2: right, y1: py(product.target), y2: py(product.target) }));
    }
    for (const line of product.lines.filter((each) => each.shown)) {
      svg.append(shape("path", { d: path(line.points, product.checked, px, py), ...style(line.type) }));
    }
    if (state.at !== null) {
      svg.append(shape("line", { class: "hair", x1: px(state.at), x2: px(state.at), y1: 6, y2: bottom }));
    }
  }
  plot.replaceChildren(svg);
  say(readout, product, state.at);
}

// A point holds until the next one; a null lifts the pen. Where nothing was seen since, the line
// ends at the last check.
function path(points, checked, px, py) {
  let drawn = "";
  let down = false;
  for (const [minute, price] of points) {
    const x = px(Math.max(0, minute)).toFixed(1);
    if (down) drawn += `H${x}`;
    if (price !== null) drawn += `${down ? "V" : `M${x} `}${py(price).toFixed(1)}`;
    down = price !== null;
  }
  return down ? `${drawn}H${px(Math.max(checked, points.at(-1)[0])).toFixed(1)}` : drawn;
}

function say(readout, product, at) {
  const when = at === null ? product.checked : at;
  readout.replaceChildren(at === null ? `Last checked ${moment(when)}: ` : `${moment(when)}: `);
  product.lines.filter((line) => line.shown).forEach((line, place) => {
    readout.append(place ? ", " : "", `${data.labels[line.type]} `,
      element("b", {}, money(priceAt(line.points, when), product.market)));
  });
}

function table(product) {
  const details = element("details", {}, element("summary", {}, "Changes as a table"));
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    const rows = product.lines
      .flatMap((line) => line.points.map(([minute, price]) => [minute, line.type, price]))
      .sort((a, b) => b[0] - a[0]);
    const body = element("tbody");
    for (const [minute, type, price] of rows) {
      body.append(element("tr", {}, element("td", {}, moment(minute)), element("td", {}, data.labels[type]),
        element("td", { class: "number" }, money(price, product.market))));
    }
    const head = element("tr", {}, ...["When (UTC)", "Price type", "Price from then on"].map((text, place) =>
      element("th", { scope: "col", ...(place === 2 ? { class: "number" } : {}) }, text)));
    details.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes" },
      element("table", {}, element("thead", {}, head), body)));
  });
  return details;
}

// The start.

for (const domain of new Set(products.map((each) => each.domain))) {
  byId("market").append(element("option", { value: domain }, `amazon.${data.markets[domain].tld}`));
}
byId("controls").hidden = false;
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", search);
byId("market").addEventListener("change", search);
byId("order").addEventListener("change", search);
byId("more").addEventListener("click", () => {
  const first = more();
  if (first) first.firstChild.focus();
});

// A link from a table above leads to a product that may not be drawn yet.
function follow() {
  const [, domain, asin] = location.hash.split("-");
  const product = products.find((each) => each.domain === domain && each.asin === asin);
  if (!product) return;
  if (!byId(`p-${domain}-${asin}`)) {
    byId("search").value = asin;
    byId("market").value = domain;
    search();
  }
  const article = byId(`p-${domain}-${asin}`);
  article.scrollIntoView();
  article.focus();
}
search();
addEventListener("hashchange", follow);
follow();
