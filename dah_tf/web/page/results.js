// The grid of neighbours. Tiles are added in parts, and their pictures load when they come near.

import { say } from "./strings.js";
import * as api from "./api.js";

const PART = 240; // tiles that are added at a time

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      api.show(target, target.dataset.path);
    }
  },
  { rootMargin: "400px" },
);

const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

let showing = 0; // each call of `show` ends the one before

// `href` makes the address of a search with an item; `removable` adds a button to each tile.
export function show(list, answer, { href, removable }) {
  const turn = ++showing;
  near.disconnect();
  list.replaceChildren();
  const { neighbours, query } = answer;
  const add = (start) => {
    if (turn !== showing) return;
    const part = neighbours.slice(start, start + PART);
    list.append(...part.map((each) => tile(each, query, { href, removable })));
    if (start + PART < neighbours.length) requestAnimationFrame(() => add(start + PART));
  };
  add(0);
}

export const clear = (list) => {
  showing++;
  near.disconnect();
  list.replaceChildren();
};

const isWrong = (neighbour, query) =>
  Boolean(query.label) && Boolean(neighbour.label) && neighbour.label !== query.label;

export const judged = (answer) => answer.neighbours.filter((each) => answer.query.label && each.label);

function tile(neighbour, query, { href, removable }) {
  const wrong = isWrong(neighbour, query);
  const image = make("img", { alt: "", width: 192, height: 192, decoding: "async" });
  image.dataset.path = api.thumbnail(neighbour.id);
  image.addEventListener("error", () => {
    image.replaceWith(make("span", { className: "none", textContent: say.noPicture }));
  });
  near.observe(image);
  const lines = [
    make("span", { className: "place", textContent: say.rank(neighbour) }),
    make("span", { className: "label", textContent: neighbour.label || " " }),
    make("span", { className: "name", textContent: neighbour.key, title: neighbour.key }),
  ];
  if (wrong) lines.splice(2, 0, make("span", { className: "other", textContent: say.otherLabel }));
  const link = make(
    "a",
    { href: href(neighbour), className: "tile", title: say.searchOn(neighbour) },
    make("span", { className: "picture" }, image),
    ...lines,
  );
  Object.assign(link.dataset, { id: neighbour.id, code: neighbour.code });
  const entry = make("li", { className: wrong ? "wrong" : "" }, link);
  if (removable) {
    const button = make("button", { type: "button", className: "remove", textContent: "×" });
    button.dataset.id = neighbour.id;
    button.setAttribute("aria-label", say.removeItem(neighbour));
    entry.append(button);
  }
  return entry;
}

// Moves the focus by the arrow keys, Home and End.
export function move(list, event) {
  const links = [...list.querySelectorAll("a.tile")];
  const place = links.indexOf(document.activeElement);
  if (place < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const first = links[0].getBoundingClientRect().top;
  const below = links.findIndex((each) => each.getBoundingClientRect().top > first + 1);
  const row = below < 0 ? links.length : below;
  const moves = {
    ArrowRight: place + 1,
    ArrowLeft: place - 1,
    ArrowDown: place + row,
    ArrowUp: place - row,
    Home: 0,
    End: links.length - 1,
  };
  const target = links[moves[event.key]];
  if (!target) return;
  event.preventDefault();
  target.focus();
}
