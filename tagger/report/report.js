"use strict";
// Sorts and filters rows, and draws those of songs as they are scrolled to.

const PIECE = 250; // songs that are drawn together; lists of no more are drawn at once
const MOST_PRINTED = 2000; // songs of a list
const NONE = "–";

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const near = new IntersectionObserver(drawNear, { rootMargin: "100% 0px" });
const pieces = new WeakMap(); // a tbody of songs → { draw, clear }
const lists = new Map(Array.from(document.querySelectorAll("table"), (table) => [table, makeList(table)]));

document.querySelectorAll("th[data-sort]").forEach(makeSortable);
const filters = Array.from(document.querySelectorAll(".filter"), makeFilter);
document.addEventListener("click", showSongs);
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
matchMedia("print").addEventListener("change", ({ matches }) => print(matches));

// Lists

// The rows of a table in their order, of which those are drawn that fit.
function makeList(table) {
  const list = table.classList.contains("songs") ? songsOf(table) : rowsOf(table);
  list.sorted = list.entries;
  list.fits = () => true;
  list.show = () => {
    const shown = list.sorted.filter(list.fits);
    list.draw(shown);
    return shown.length;
  };
  return list;
}

// A table all of whose rows are in the page. The key of a column is what is sorted by: "" is last.
function rowsOf(table) {
  const body = table.tBodies[0];
  return {
    entries: [...body.rows],
    text: (row) => row.textContent,
    key: ({ cells }, column) => cells[column].dataset.value ?? cells[column].textContent,
    draw(rows) {
      const drawn = new DocumentFragment();
      for (const row of rows) drawn.append(row);
      body.replaceChildren(drawn);
    },
  };
}

// Songs, which are in the page as data (html.py, _song_data): texts are numbers of `texts` where many songs have them.
function songsOf(table) {
  const { texts, songs } = JSON.parse(table.nextElementSibling.textContent);
  const blank = document.querySelector("#song-row").content.querySelector("tr");
  const named = (numbers) => numbers.map((number) => texts[number]);

  function cellTexts([folder, name, reference, predicted, ranking, , , starts, status, reason]) {
    const ranked = ranking.map(([genre, confidence]) => `${texts[genre]} ${confidence}`);
    return [
      texts[folder] + name,
      named(reference).join("; "),
      named(predicted).join("; "),
      ranked.join(" "),
      starts,
      `${texts[status]} ${texts[reason]}`,
    ];
  }

  function drawSong([folder, name, reference, predicted, ranking, , bar, starts, status, reason], at) {
    const row = blank.cloneNode(true);
    row.ariaRowIndex = at + 2; // the first is that of the heads
    const [pathCell, referenceCell, predictedCell, rankingCell, startsCell, statusCell] = row.cells;
    pathCell.replaceChildren(...(texts[folder] ? [element("bdi", texts[folder], "folder")] : []), element("bdi", name));
    referenceCell.replaceChildren(...joined(named(reference).map((genre) => [element("bdi", genre)]), "; "));
    predictedCell.replaceChildren(...joined(named(predicted).map((genre) => [element("bdi", genre)]), "; "));
    const ranked = ranking.map(([genre, confidence]) => [element("bdi", texts[genre]), `\u00a0${confidence}`]);
    rankingCell.replaceChildren(...drawBar(rankingCell.querySelector("svg"), bar), ...joined(ranked, " · "));
    startsCell.textContent = starts || NONE;
    statusCell.className = `status ${texts[status]}`;
    statusCell.replaceChildren(element("b", texts[status]));
    if (texts[reason]) {
      const span = element("span", texts[reason]);
      span.dir = "auto";
      statusCell.append(" ", span);
    }
    return row;
  }

  const list = {
    entries: songs,
    text: (song) => cellTexts(song).join("\n"),
    key: (song, column) => (column === 3 ? song[5] : cellTexts(song)[column]),
    names: { reference: (song) => named(song[2]), predicted: (song) => named(song[3]), status: (song) => [texts[song[8]]] },
    ...inPieces(table, drawSong),
  };
  if (table.tBodies[0].rows.length < songs.length) list.draw(songs);
  return list;
}

// Draws songs in one tbody for each piece; of many pieces those that are near the window, the others are empty space.
function inPieces(table, drawSong) {
  const empty = table.tBodies[0].cloneNode(false);
  const more = table.parentNode.querySelector(".more");
  let n_drawn = 0;

  function makePiece(songs, start) {
    const body = empty.cloneNode(false);
    pieces.set(body, {
      draw() {
        if (body.rows.length) return;
        body.append(...songs.slice(start, start + PIECE).map((song, at) => drawSong(song, start + at)));
        body.style.height = "";
      },
      clear() {
        if (body.rows.length) body.style.height = `${body.offsetHeight}px`;
        body.replaceChildren();
      },
    });
    return body;
  }

  function draw(songs) {
    for (const body of [...table.tBodies]) {
      near.unobserve(body);
      body.remove();
    }
    const bodies = [];
    for (let start = 0; start === 0 || start < songs.length; start += PIECE) bodies.push(makePiece(songs, start));
    table.append(...bodies);
    table.ariaRowCount = songs.length + 1;
    pieces.get(bodies[0]).draw();
    n_drawn = songs.length;
    if (bodies.length === 1) return;
    const rowHeight = bodies[0].offsetHeight / PIECE; // of the others a guess, which drawing corrects
    bodies.forEach((body, at) => {
      if (at) body.style.height = `${rowHeight * Math.min(PIECE, songs.length - at * PIECE)}px`;
      near.observe(body);
    });
  }

  // On paper are the first of the songs, and how many more there are.
  function printSongs(isPrinting) {
    const bodies = [...table.tBodies];
    if (bodies.length === 1) return;
    bodies.forEach((body, at) => {
      body.hidden = isPrinting && at * PIECE >= MOST_PRINTED;
      if (isPrinting && !body.hidden) pieces.get(body).draw();
      if (isPrinting) near.unobserve(body);
      else near.observe(body);
    });
    more.hidden = !isPrinting || n_drawn <= MOST_PRINTED;
    more.textContent = `${(n_drawn - MOST_PRINTED).toLocaleString("en")} more are not printed: filter them first.`;
  }

  return { draw, printSongs };
}

function drawNear(changes) {
  for (const { target, isIntersecting } of changes) {
    if (isIntersecting) pieces.get(target).draw();
    else pieces.get(target).clear();
  }
}

function print(isPrinting) {
  for (const list of lists.values()) list.printSongs?.(isPrinting);
}

// Pieces of a row

function element(tag, text, name) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

// Groups of nodes with a text between them; a dash for none.
function joined(groups, between) {
  return groups.length ? groups.flatMap((group, at) => (at ? [between, ...group] : group)) : [NONE];
}

// The confidences of a song end to end, in hundredths of the bar.
function drawBar(svg, bar) {
  const blank = svg.querySelector("rect");
  let x = 0;
  const rects = bar.map((width) => {
    const rect = blank.cloneNode();
    rect.setAttribute("x", x.toFixed(1));
    rect.setAttribute("width", width.toFixed(1));
    x += width;
    return rect;
  });
  svg.replaceChildren(...rects);
  return rects.length ? [svg] : [];
}

// Sorting

// A head becomes a button: the first click sorts, the second the other way round, the third as it was.
function makeSortable(head) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  head.ariaSort = "none";
  const directions = ["none", "ascending", "descending"];
  if (head.dataset.sort === "number") directions.push(directions.splice(1, 1)[0]);
  button.addEventListener("click", () => {
    const next = directions[(directions.indexOf(head.ariaSort) + 1) % 3];
    for (const other of head.parentNode.querySelectorAll("[aria-sort]")) other.ariaSort = "none";
    head.ariaSort = next;
    sort(lists.get(head.closest("table")), head, next);
  });
}

function sort(list, head, direction) {
  list.sorted = list.entries;
  if (direction !== "none") {
    const compare = head.dataset.sort === "number" ? (a, b) => a - b : collator.compare;
    const sign = direction === "descending" ? -1 : 1;
    const keyed = list.entries.map((entry) => [list.key(entry, head.cellIndex), entry]);
    // What has no value is last, either way.
    keyed.sort(([a], [b]) => (a === "") - (b === "") || sign * compare(a, b));
    list.sorted = keyed.map(([, entry]) => entry);
  }
  list.show();
}

// Filtering

// Looks for all words of the box anywhere in a row, and for the choices in their columns.
function makeFilter(controls) {
  const table = controls.parentNode.querySelector("table");
  const list = lists.get(table);
  const box = controls.querySelector("input");
  const selects = [...controls.querySelectorAll("select")];
  const output = controls.querySelector("output");
  const all = output.textContent;
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  let texts = null; // entry → its text

  function apply() {
    texts ??= new Map(list.entries.map((entry) => [entry, plain(list.text(entry))]));
    const words = plain(box.value).split(/\s+/);
    const choices = selects.filter(({ value }) => value).map(({ name, value }) => [list.names[name], value]);
    list.fits = (entry) =>
      words.every((word) => texts.get(entry).includes(word)) &&
      choices.every(([names, value]) => names(entry).includes(value) || (value === NONE && !names(entry).length));
    const n_shown = list.show();
    output.textContent = n_shown < list.entries.length ? `${n_shown.toLocaleString("en")} of ${all}` : all;
  }

  function choose(values) {
    box.value = "";
    for (const select of selects) select.value = values[select.name] ?? "";
    apply();
  }

  controls.addEventListener("input", apply);
  controls.hidden = false;
  return { n_rows: list.entries.length, section: controls.closest("section"), choose };
}

// A click on a cell of a heat map shows its songs in the longest list, which has them all.
function showSongs({ target }) {
  const pair = target.closest("[data-reference]")?.dataset;
  if (!pair) return;
  const ofSongs = filters.filter(({ section }) => section.querySelector(".songs"));
  const { section, choose } = ofSongs.reduce((longest, list) => (list.n_rows > longest.n_rows ? list : longest));
  choose({ reference: pair.reference, predicted: pair.predicted });
  section.scrollIntoView();
  section.focus({ preventScroll: true });
}
