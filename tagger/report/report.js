"use strict";
// Sorts and filters the rows that are in the page.

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

document.querySelectorAll("th[data-sort]").forEach(makeSortable);
const filters = Array.from(document.querySelectorAll(".filter"), makeFilter);
document.addEventListener("click", showSongs);

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
    sort(head, next);
  });
}

function sort(head, direction) {
  const body = head.closest("table").tBodies[0];
  body.asReported ??= [...body.rows];
  const compare = head.dataset.sort === "number" ? (a, b) => a - b : collator.compare;
  const sign = direction === "descending" ? -1 : 1;
  const keyed = body.asReported.map((row) => {
    const cell = row.cells[head.cellIndex];
    return [cell.dataset.value ?? cell.textContent, row];
  });
  if (direction !== "none") {
    // What has no value is last, either way.
    keyed.sort(([a], [b]) => (a === "") - (b === "") || sign * compare(a, b));
  }
  const sorted = document.createDocumentFragment();
  for (const [, row] of keyed) sorted.append(row);
  body.append(sorted);
}

// Looks for all words of the box anywhere in a row, and for the choices in their columns.
function makeFilter(controls) {
  const table = controls.parentNode.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const box = controls.querySelector("input");
  const selects = [...controls.querySelectorAll("select")];
  const columns = selects.map(({ name }) => table.tHead.querySelector(`.${name}`).cellIndex);
  const output = controls.querySelector("output");
  const all = output.textContent;
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  let entries = null;

  function read(row) {
    const names = (column) => Array.from(row.cells[column].querySelectorAll("bdi, b"), (each) => each.textContent);
    return { row, text: plain(row.textContent), choices: columns.map(names) };
  }

  function apply() {
    entries ??= rows.map(read);
    const words = plain(box.value).split(/\s+/);
    let shown = 0;
    for (const { row, text, choices } of entries) {
      const fits =
        words.every((word) => text.includes(word)) &&
        selects.every(({ value }, at) => !value || choices[at].includes(value) || (value === "–" && !choices[at].length));
      row.hidden = !fits;
      shown += fits;
    }
    output.textContent = shown < rows.length ? `${shown.toLocaleString("en")} of ${all}` : all;
  }

  function choose(values) {
    box.value = "";
    for (const select of selects) select.value = values[select.name] ?? "";
    apply();
  }

  controls.addEventListener("input", apply);
  controls.hidden = false;
  return { n_rows: rows.length, section: controls.closest("section"), choose };
}

// A click on a cell of a heat map shows its songs in the longest list, which has them all.
function showSongs({ target }) {
  const pair = target.closest("[data-reference]")?.dataset;
  if (!pair) return;
  const lists = filters.filter(({ section }) => section.querySelector(".songs"));
  const { section, choose } = lists.reduce((longest, list) => (list.n_rows > longest.n_rows ? list : longest));
  choose({ reference: pair.reference, predicted: pair.predicted });
  section.scrollIntoView();
  section.focus({ preventScroll: true });
}
