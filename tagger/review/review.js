// The page of a review: lists songs as they are scrolled to, plays them, keeps what is decided as it is decided.
// All names are put in as text. The server has the last word: what it knows otherwise is taken over.

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000, JOB_MS = 250, MOST_RETRY_MS = 10000; // how often the server is asked for news
const OVERSCAN = 0.6; // windows of rows that are drawn beyond each edge
const MOST_LISTED = 2000; // changes that are listed before they are written
const MOST_KEEPALIVE = 60000; // bytes of a request that outlives the page
const NONE = "–";
const ACCEPT = "accept", REJECT = "reject", UNDECIDED = "";

const collator = new Intl.Collator(undefined, { sensitivity: "base" });
const thousands = (number) => number.toLocaleString("en");
const counted = (number, noun) => `${thousands(number)} ${noun}${number === 1 ? "" : "s"}`;
const joined = (genres) => genres.join("; ");
const same = (one, other) => joined(one).normalize() === joined(other).normalize();

const state = { revision: 0, nRewritten: 0, job: null, undoable: "" };
let songs = []; // objects, by number
let albums = []; // names, by place
let genres = []; // that may be typed
const unsaved = []; // [{ decisions: [[number, choice]…], source, before }…], in the order they were taken
const taken = []; // decisions that can be taken back: [[number, choice, source]…]

// --- talking to the server

async function ask(path, body) {
  const options = { credentials: "same-origin" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
    options.keepalive = options.body.length < MOST_KEEPALIVE;
  }
  const response = await fetch(path, options);
  if (!response.ok) throw Object.assign(new Error(await response.text()), { status: response.status });
  return response.json();
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

let isSaving = false, retryMs = 500;

// Send what is decided, one after the other, until all of it is kept.
async function save() {
  if (isSaving) return;
  isSaving = true;
  while (unsaved.length) {
    try {
      const { decisions, source } = unsaved[0];
      await ask("/decide", { decisions, source });
    } catch (error) {
      if (error.status === 400 || error.status === 413) {
        const [refused] = unsaved.splice(0, 1);
        trouble(`Not kept: ${error.message}`);
        for (const [number, choice, source] of refused.before) Object.assign(songs[number], { choice, source, isUnsaved: false });
        continue;
      }
      const why = error.status ? error.message : "the review does not answer. If it was closed, start it again.";
      trouble(`Not kept yet (${thousands(unsaved.length)} to go): ${why}`);
      drawAll();
      await new Promise((done) => setTimeout(done, retryMs));
      retryMs = Math.min(2 * retryMs, MOST_RETRY_MS);
      continue;
    }
    const [kept] = unsaved.splice(0, 1);
    retryMs = 500;
    for (const [number] of kept.decisions) songs[number].isUnsaved = false;
    trouble("");
  }
  isSaving = false;
  drawAll();
}

// Take over what other pages and processes decided and wrote.
async function hearNews() {
  let news;
  try {
    news = await ask(`/news?revision=${state.revision}&n_rewritten=${state.nRewritten}`);
  } catch (error) {
    if (!unsaved.length) trouble(error.status ? error.message : "The review does not answer: it may have been closed.");
    return;
  }
  if (!unsaved.length) trouble("");
  const waiting = new Set(unsaved.flatMap(({ decisions }) => decisions.map(([number]) => number)));
  for (const [number, choice, source] of news.decisions) {
    if (!waiting.has(number)) Object.assign(songs[number], { choice, source, isUnsaved: false });
  }
  for (const [number, old] of news.old) Object.assign(songs[number], { old, isRewritten: true });
  takeState(news);
  if (news.decisions.length || news.old.length) drawAll();
}

function takeState({ revision, n_rewritten, job, undoable }) {
  const wasRunning = state.job?.is_running;
  Object.assign(state, { revision, nRewritten: n_rewritten, job, undoable });
  drawJob();
  if (wasRunning && !job?.is_running) drawAll();
}

async function listen() {
  await hearNews();
  setTimeout(listen, state.job?.is_running ? JOB_MS : POLL_MS);
}

// --- songs

function songOf([album, name, old, proposed, confidence, second, secondConfidence, choice, source, starts, isPlayable, isRewritten], number) {
  const find = `${albums[album]}\n${name}\n${joined(old)}\n${joined(proposed)}`.toLowerCase();
  return { number, album, name, old, proposed, confidence, second, secondConfidence, choice, source, starts, isPlayable, isRewritten, find };
}

const wanted = (song) => (Array.isArray(song.choice) ? song.choice : song.choice === ACCEPT ? song.proposed : null);
const isChange = (song) => wanted(song) !== null && !same(wanted(song), song.old);
const isOpen = (song) => song.choice === UNDECIDED;

const STATES = {
  all: () => true,
  open: isOpen,
  accepted: ({ choice }) => choice === ACCEPT,
  rejected: ({ choice }) => choice === REJECT,
  corrected: ({ choice }) => Array.isArray(choice),
  disagree: ({ old, proposed }) => old.length > 0 && !same(old, proposed),
  changes: isChange,
};
const ORDERS = {
  album: (one, other) => one.number - other.number,
  unsure: (one, other) => (one.confidence ?? -1) - (other.confidence ?? -1) || one.number - other.number,
  sure: (one, other) => (other.confidence ?? -1) - (one.confidence ?? -1) || one.number - other.number,
};

// --- deciding

// Decide on songs: [[song, choice]…]; `source` says on what it was decided.
function decide(pairs, source, mayTakeBack = true) {
  if (!pairs.length) return;
  const before = pairs.map(([{ number, choice, source: from }]) => [number, choice, from]);
  if (mayTakeBack) taken.push(before);
  for (const [song, choice] of pairs) Object.assign(song, { choice, source, isUnsaved: true });
  const decisions = pairs.map(([{ number }, choice]) => [number, choice]);
  unsaved.push({ decisions, source, before });
  drawAll();
  save();
}

function takeBack() {
  const last = taken.pop();
  if (!last) return;
  for (const source of new Set(last.map(([, , source]) => source))) {
    const pairs = last.filter((each) => each[2] === source).map(([number, choice]) => [songs[number], choice]);
    decide(pairs, { plan: "bulk", "": "song" }[source] ?? source, false);
  }
  const place = placeOf.get(last[0][0]);
  if (place !== undefined) moveTo(place);
  say(`Taken back: ${counted(last.length, "song")}.`);
}

// Decide on the song under the cursor, and go on to the next.
function decideHere(choice) {
  const song = current();
  if (!song || (choice === ACCEPT && !song.proposed.length)) return;
  decide([[song, choice]], "song");
  goOn();
}

function goOn() {
  const wasPlaying = !audio.paused;
  if (move(1) && wasPlaying) play(current());
}

function acceptAlbum(album) {
  const open = shown.filter((song) => song.album === album && isOpen(song) && song.proposed.length);
  decide(open.map((song) => [song, ACCEPT]), "album");
  say(`Accepted: ${counted(open.length, "song")} of ${albums[album]}.`);
}

function sureOnes() {
  const least = Number($("least").value);
  return shown.filter((song) => isOpen(song) && song.proposed.length && song.confidence !== null && song.confidence >= least);
}

const say = (text) => ($("listed").textContent = text);

// --- the list: rows are drawn where they belong, and only those near the window

const list = $("list");
let shown = []; // songs, in their order
let items = []; // { song } or { album, songs }, in their order
let tops = []; // where each item begins, in pixels; and where the last one ends
let placeOf = new Map(); // number of a song -> its place in items
let cursor = -1; // place in items
const drawn = new Map(); // place -> row

function listSongs() {
  const number = current()?.number;
  const text = $("find").value.trim().toLowerCase(), genre = $("genre").value;
  const fits = STATES[$("state").value];
  shown = songs.filter(
    (song) =>
      fits(song) && (!text || song.find.includes(text)) &&
      (!genre || song.proposed.includes(genre) || song.old.includes(genre) || (wanted(song) ?? []).includes(genre)),
  );
  const order = $("order").value;
  if (order !== "album") shown.sort(ORDERS[order]);
  items = [];
  let last = null;
  for (const song of shown) {
    if (order === "album" && song.album !== last?.album) items.push((last = { album: song.album, songs: [] }));
    last?.songs.push(song);
    items.push({ song });
  }
  placeOf = new Map(items.flatMap(({ song }, place) => (song ? [[song.number, place]] : [])));
  cursor = placeOf.get(number) ?? items.findIndex(({ song }) => song);
  measure();
  for (const row of drawn.values()) row.remove();
  drawn.clear();
  list.ariaRowCount = items.length;
  $("empty").hidden = items.length > 0;
  say(shown.length === songs.length ? counted(songs.length, "song") : `${thousands(shown.length)} of ${counted(songs.length, "song")}`);
  drawAll();
}

function measure() {
  const style = getComputedStyle(document.documentElement);
  const song = parseFloat(style.getPropertyValue("--song")), album = parseFloat(style.getPropertyValue("--album"));
  tops = [0];
  for (const item of items) tops.push(tops.at(-1) + (item.song ? song : album));
  list.style.height = `${tops.at(-1)}px`;
}

// The last item that begins at or above a height.
function itemAt(height) {
  let low = 0, high = items.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (tops[middle] <= height) low = middle;
    else high = middle;
  }
  return low;
}

let isDue = false;
function drawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawRows();
  });
}

function drawRows() {
  const top = -list.getBoundingClientRect().top, more = innerHeight * OVERSCAN;
  const places = new Set();
  if (items.length) {
    for (let place = itemAt(Math.max(0, top - more)); place < items.length && tops[place] < top + innerHeight + more; place++) places.add(place);
    if (cursor >= 0) places.add(cursor); // or the focus would be lost
  }
  for (const [place, row] of drawn) {
    if (places.has(place)) continue;
    row.remove();
    drawn.delete(place);
  }
  let next = list.firstElementChild;
  for (const place of [...places].sort((one, other) => one - other)) {
    let row = drawn.get(place);
    if (!row) {
      row = items[place].song ? makeSong(place) : makeAlbum(place);
      row.style.transform = `translateY(${tops[place]}px)`;
      row.ariaRowIndex = place + 1;
      drawn.set(place, row);
      fill(row, place);
      list.insertBefore(row, next);
    } else next = row.nextElementSibling;
  }
}

function drawAll() {
  drawRows();
  for (const [place, row] of drawn) fill(row, place);
  drawCounts();
}

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function button(text, name, label, action) {
  const made = element("button", text, name);
  made.type = "button";
  if (label) made.ariaLabel = label;
  made.addEventListener("click", action);
  return made;
}

function cell(name, ...children) {
  const made = element("div", undefined, name);
  made.setAttribute("role", "gridcell");
  made.append(...children);
  return made;
}

function makeAlbum(place) {
  const { album } = items[place];
  const row = element("div", undefined, "album");
  row.setAttribute("role", "row");
  const head = element("h2");
  head.append(element("bdi", albums[album]), element("span"));
  row.append(cell("", head), cell("", button("Accept album", "", `Accept album ${albums[album]}`, () => acceptAlbum(album))));
  return row;
}

function makeSong(place) {
  const { song } = items[place];
  const row = element("div", undefined, "song");
  row.setAttribute("role", "row");
  row.append(
    cell("", button("", "play", `Play ${song.name}`, () => playOrPause(song))),
    cell("name", element("bdi", song.name), element("small")),
    cell("genre", element("span", undefined, "line"), element("small")),
    cell("confidence", element("i"), element("span")),
    cell(
      "decide",
      button("Accept", "accept", "", () => decide([[song, song.choice === ACCEPT ? UNDECIDED : ACCEPT]], "song")),
      button("Reject", "reject", "", () => decide([[song, song.choice === REJECT ? UNDECIDED : REJECT]], "song")),
      button("Other…", "other", "", () => edit(song)),
    ),
  );
  row.addEventListener("pointerdown", () => moveTo(place, false));
  row.addEventListener("focusin", () => cursor === place || moveTo(place, false));
  return row;
}

function fill(row, place) {
  const item = items[place];
  if (item.song) fillSong(row, item.song, place === cursor);
  else fillAlbum(row, item);
}

function fillAlbum(row, item) {
  const nOpen = item.songs.filter(isOpen).length;
  const [count, accept] = [row.querySelector("span"), row.querySelector("button")];
  count.textContent = nOpen ? `${counted(item.songs.length, "song")}, ${thousands(nOpen)} to decide` : `${counted(item.songs.length, "song")}, all decided`;
  accept.disabled = !item.songs.some((song) => isOpen(song) && song.proposed.length);
  accept.tabIndex = items[cursor]?.song?.album === item.album ? 0 : -1;
}

function fillSong(row, song, isHere) {
  const new_ = wanted(song), isWritten = song.isRewritten && new_ !== null && same(new_, song.old);
  row.classList.toggle("is-decided", !isOpen(song));
  row.classList.toggle("is-rejected", song.choice === REJECT);
  row.classList.toggle("is-planned", song.source === "plan");
  row.classList.toggle("is-playing", song === playing && !audio.paused);
  row.ariaSelected = String(isHere);
  row.tabIndex = isHere ? 0 : -1;
  const [name, genre] = [row.querySelector(".name"), row.querySelector(".genre")];
  const note = name.querySelector("small");
  note.textContent = song.isUnsaved ? "not kept yet" : isWritten ? "written" : "";
  note.className = song.isUnsaved ? "unsaved" : "written";
  note.hidden = !note.textContent;
  fillGenre(genre, song, new_ ?? song.proposed);
  const confidence = row.querySelector(".confidence");
  confidence.firstElementChild.style.setProperty("--part", song.confidence ?? 0);
  confidence.lastElementChild.textContent = song.confidence === null ? NONE : song.confidence.toFixed(2);
  const [accept, reject, other] = row.querySelectorAll(".decide button");
  accept.ariaPressed = String(song.choice === ACCEPT);
  accept.disabled = !song.proposed.length;
  reject.ariaPressed = String(song.choice === REJECT);
  other.ariaPressed = String(Array.isArray(song.choice));
  other.textContent = Array.isArray(song.choice) ? joined(song.choice) : "Other…";
  for (const each of row.querySelectorAll("button")) each.tabIndex = isHere ? 0 : -1;
}

function fillGenre(cell, song, target) {
  const [line, small] = cell.children;
  const isSame = same(song.old, target);
  const parts = song.old.length && !isSame ? [element("span", `${joined(song.old)} → `, "old")] : [];
  line.replaceChildren(...parts, element("b", joined(target) || NONE));
  line.title = line.textContent;
  const second = song.second ? `or ${song.second}${song.secondConfidence === null ? "" : ` ${song.secondConfidence.toFixed(2)}`}` : "";
  small.textContent = [isSame && song.old.length ? "as its tag" : song.old.length ? "" : "no genre yet", second].filter(Boolean).join(" · ");
}

function drawCounts() {
  const nDecided = songs.length - songs.filter(isOpen).length;
  const nChanges = songs.filter(isChange).length;
  $("progress").max = songs.length || 1;
  $("progress").value = nDecided;
  $("progress-text").textContent = `${thousands(nDecided)} of ${counted(songs.length, "song")} decided`;
  const open = $("write-open");
  open.disabled = !nChanges && !state.undoable && !state.job;
  open.textContent = nChanges ? `Write ${counted(nChanges, "song")}…` : state.undoable ? "Written…" : "Nothing to write";
  $("take-back").disabled = !taken.length;
  const nSure = sureOnes().length;
  $("accept-above").textContent = nSure ? `Accept ${counted(nSure, "song")}` : "Accept none";
  $("accept-above").disabled = !nSure;
}

// --- the cursor

const current = () => items[cursor]?.song;

// Whether there is a song at that place, at which the cursor is now.
function moveTo(place, isFocused = true) {
  if (!items[place]?.song) return false;
  const before = cursor;
  cursor = place;
  if (isFocused) scrollTo_(place);
  drawRows();
  for (const each of [before, place]) if (drawn.has(each)) fill(drawn.get(each), each);
  for (const [each, row] of drawn) if (items[each].songs) fillAlbum(row, items[each]);
  if (isFocused) drawn.get(place).focus({ preventScroll: true });
  return true;
}

// Have a row in the window, with what stands above and below it in sight.
function scrollTo_(place) {
  const head = document.querySelector("header").offsetHeight, foot = document.querySelector("footer").offsetHeight;
  const start = list.getBoundingClientRect().top + scrollY;
  const top = start + tops[items[place - 1]?.songs ? place - 1 : place], bottom = start + tops[place + 1];
  if (top < scrollY + head + 12) scrollTo({ top: top - head - 12, behavior: "instant" });
  else if (bottom > scrollY + innerHeight - foot - 72) scrollTo({ top: bottom - innerHeight + foot + 72, behavior: "instant" });
}

function move(step, fits = () => true) {
  for (let place = cursor + step; place >= 0 && place < items.length; place += step) {
    if (items[place].song && fits(items[place].song)) return moveTo(place);
  }
  return false;
}

// --- playing

const audio = $("audio");
let playing = null, snippet = 0, offset = 0; // the song, which of its snippets, and where what is played begins in it
let isPreview = false;
const NO_FILES = new Set(); // suffixes of files that this browser was found not to play

const suffixOf = ({ name }) => name.slice(name.lastIndexOf(".")).toLowerCase();

function play(song, at = 0) {
  playing = song;
  snippet = at;
  isPreview = !song.isPlayable || NO_FILES.has(suffixOf(song));
  load(song.starts[at] ?? 0);
}

function load(start) {
  const { number } = playing;
  $("player").hidden = false;
  $("playing").textContent = playing.name;
  offset = isPreview ? start : 0;
  $("play-note").textContent = isPreview ? "30 seconds of it: this browser cannot play the file itself" : "";
  const address = isPreview ? `/preview/${number}?start=${start}` : `/audio/${number}`;
  if (audio.getAttribute("src") !== address) audio.src = address;
  if (!isPreview) seekTo(start);
  audio.play().catch(() => {}); // what is wrong is told by its event
  drawPlayer();
}

function seekTo(seconds) {
  if (audio.readyState >= 1) audio.currentTime = Math.max(0, Math.min(seconds, audio.duration || seconds));
  else audio.addEventListener("loadedmetadata", () => (audio.currentTime = seconds), { once: true });
}

function playOrPause(song) {
  if (song && song !== playing) play(song);
  else if (!playing) play(current());
  else if (audio.paused) audio.play().catch(() => {});
  else audio.pause();
}

function nextSnippet() {
  const song = playing ?? current();
  if (song) play(song, song.starts.length ? (snippet + 1) % song.starts.length : 0);
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function drawPlayer() {
  const isOn = !audio.paused;
  $("play").classList.toggle("is-playing", isOn);
  $("play").ariaLabel = isOn ? "Pause" : "Play";
  const length = audio.duration || 0;
  $("seek").max = length || 1;
  $("seek").value = audio.currentTime;
  $("seek").ariaValueText = `${clock(offset + audio.currentTime)} of ${clock(offset + length)}`;
  $("time").textContent = `${clock(offset + audio.currentTime)} / ${clock(offset + length)}`;
  for (const [place, row] of drawn) {
    const { song } = items[place];
    if (song) row.classList.toggle("is-playing", song === playing && isOn);
  }
}

function drawMarks() {
  const starts = isPreview || !audio.duration ? [] : playing.starts;
  $("marks").replaceChildren(...starts.map((start) => {
    const mark = element("i");
    mark.style.setProperty("--at", Math.min(1, start / audio.duration));
    return mark;
  }));
}

for (const name of ["play", "pause", "timeupdate", "ended", "seeked"]) audio.addEventListener(name, drawPlayer);
audio.addEventListener("loadedmetadata", () => (drawMarks(), drawPlayer()));
audio.addEventListener("error", () => {
  if (!audio.getAttribute("src")) return;
  if (!isPreview) {
    NO_FILES.add(suffixOf(playing));
    play(playing, snippet);
  } else {
    $("play-note").textContent = "cannot be played";
    drawPlayer();
  }
});

// --- other genres

let edited = null;

function edit(song) {
  if (!song) return;
  edited = song;
  $("edit-song").textContent = song.name;
  $("edit-genres").value = joined(Array.isArray(song.choice) ? song.choice : []);
  $("edit-trouble").textContent = completion = "";
  const counts = new Map(); // what was chosen most often in this review
  for (const { choice } of songs) if (Array.isArray(choice)) for (const genre of choice) counts.set(genre, (counts.get(genre) ?? 0) + 1);
  const often = [...counts].sort((one, other) => other[1] - one[1]).map(([genre]) => genre).slice(0, 8);
  const meant = new Set([joined(song.proposed), song.second, joined(song.old), ...often].filter(Boolean));
  $("choices").replaceChildren(...[...meant].map((genre) => button(genre, "", "", () => keepGenres(splitGenres(genre)))));
  $("edit").showModal();
  $("edit-genres").select();
}

const splitGenres = (text) => [...new Set(text.split(";").map((genre) => genre.trim().replace(/\s+/g, " ")).filter(Boolean))];

function keepGenres(chosen) {
  if (!chosen.length) {
    $("edit-trouble").textContent = "No genre is given: reject leaves the song as it is.";
    return;
  }
  if (chosen.length > 20 || chosen.some((genre) => genre.length > 200)) {
    $("edit-trouble").textContent = "That is too long for a genre.";
    return;
  }
  $("edit").close();
  const isProposed = same(chosen, edited.proposed);
  decide([[edited, isProposed ? ACCEPT : chosen]], "song");
  for (const genre of chosen) if (!genres.includes(genre)) genres.push(genre);
  const place = placeOf.get(edited.number);
  if (place !== undefined && moveTo(place)) goOn();
}

// Complete the genre that is being typed; what was added is selected, so that typing on replaces it.
let completion = "";
$("edit-genres").addEventListener("input", (event) => {
  const field = event.target, end = field.selectionStart;
  completion = "";
  if (!event.inputType?.startsWith("insert") || end !== field.value.length) return;
  const typed = field.value.slice(field.value.lastIndexOf(";") + 1).trimStart();
  if (!typed) return;
  const found = genres.find((genre) => genre.length > typed.length && !collator.compare(genre.slice(0, typed.length), typed));
  if (!found) return;
  completion = found;
  field.setRangeText(found.slice(typed.length), end, end);
  field.setSelectionRange(end, field.value.length);
});

// Take what was added, in the spelling that is known; whether there was anything.
function takeCompletion() {
  const field = $("edit-genres");
  if (!completion || field.selectionStart === field.selectionEnd || field.selectionEnd !== field.value.length) return false;
  const start = field.value.lastIndexOf(";") + 1;
  const blank = field.value.slice(start).match(/^\s*/)[0].length;
  field.setRangeText(completion, start + blank, field.value.length, "end");
  completion = "";
  return true;
}
$("edit-genres").addEventListener("keydown", (event) => {
  if (["Enter", "Tab", ";"].includes(event.key)) takeCompletion();
  else if (["ArrowRight", "End"].includes(event.key) && takeCompletion()) event.preventDefault();
});
$("edit").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepGenres(splitGenres($("edit-genres").value));
});

// --- writing

async function openWrite() {
  while (unsaved.length) await new Promise((done) => setTimeout(done, 50)); // what keeps it is told above
  let changes = [];
  try {
    if (!state.job?.is_running) ({ changes } = await ask("/changes"));
  } catch (error) {
    return trouble(error.message);
  }
  const isAsked = changes.length > 0;
  $("write-changes").hidden = !isAsked;
  $("write-progress").hidden = isAsked;
  if (isAsked) listChanges(changes);
  drawJob();
  if (!$("write").open) $("write").showModal();
  $("write-title").focus();
}

function listChanges(changes) {
  const counts = new Map();
  for (const [, new_] of changes) counts.set(joined(new_), (counts.get(joined(new_)) ?? 0) + 1);
  $("write-genres").replaceChildren(
    ...[...counts].sort((one, other) => other[1] - one[1]).slice(0, 40).map(([genre, count]) => element("li", `${genre} ${thousands(count)}`)),
  );
  const rows = changes.slice(0, MOST_LISTED).map(([number, new_]) => {
    const row = element("li"), change = element("span");
    change.append(element("span", `${joined(songs[number].old) || NONE} → `, "old"), element("b", joined(new_)));
    row.append(element("bdi", `${albums[songs[number].album]} / ${songs[number].name}`), change);
    return row;
  });
  if (changes.length > MOST_LISTED) rows.push(element("li", `and ${counted(changes.length - MOST_LISTED, "song")} more`));
  $("write-list").replaceChildren(...rows);
  $("write-title").textContent = `Write ${counted(changes.length, "song")}?`;
}

function drawJob() {
  const { job } = state;
  const isAsking = !$("write-changes").hidden;
  const now = $("write-now");
  now.hidden = !isAsking;
  now.textContent = "Write";
  $("undo").hidden = isAsking || !state.undoable || Boolean(job?.is_running);
  if (!job || isAsking) return;
  $("write-bar").max = job.n_songs || 1;
  $("write-bar").value = job.is_running ? job.n_done : job.n_songs || 1;
  const verb = { write: ["Writing", "written"], undo: ["Taking back", "as before"] }[job.kind];
  $("write-title").textContent = job.is_running ? `${verb[0]}…` : job.error ? "Ended early" : job.kind === "undo" ? "Taken back" : "Written";
  const parts = [`${counted(job.n_written, "song")} ${verb[1]}`];
  if (job.is_running) parts.unshift(`${thousands(job.n_done)} of ${thousands(job.n_songs)}`);
  if (job.failures.length) parts.push(`${thousands(job.failures.length)} left alone`);
  $("write-text").textContent = parts.join(", ") + (job.error ? `. ${job.error}` : ".");
  const failures = $("write-failures");
  failures.hidden = !job.failures.length;
  failures.firstElementChild.replaceChildren(...job.failures.map(([number, reason]) => {
    const row = element("li");
    row.append(element("bdi", number === null ? "a song that is not listed here" : `${albums[songs[number].album]} / ${songs[number].name}`), element("span", reason, "old"));
    return row;
  }));
}

async function begin(path) {
  $("write-changes").hidden = true;
  $("write-progress").hidden = false;
  $("write-text").textContent = "Beginning…";
  try {
    await ask(path, {});
  } catch (error) {
    $("write-text").textContent = error.message;
    return;
  }
  await hearNews();
  while (state.job?.is_running) {
    await new Promise((done) => setTimeout(done, JOB_MS));
    await hearNews();
  }
  drawAll();
  $("write-title").focus();
}

$("write-now").addEventListener("click", () => begin("/write"));
$("undo").addEventListener("click", () => begin("/undo"));
$("write").querySelector("form").addEventListener("submit", (event) => event.preventDefault());

async function closeReview() {
  try {
    await ask("/close", {});
  } catch (error) {
    return trouble(error.message);
  }
  document.body.replaceChildren(element("p", "The review is closed; what was decided is kept. This page can be closed, too.", "note"));
}

// --- keys and clicks

const KEYS = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  n: () => move(1, isOpen) || say("No song to decide on below."),
  " ": () => playOrPause(current()),
  s: nextSnippet,
  ArrowLeft: () => playing && seekTo(audio.currentTime - 10),
  ArrowRight: () => playing && seekTo(audio.currentTime + 10),
  a: () => decideHere(ACCEPT),
  1: () => decideHere(ACCEPT),
  2: () => current()?.second && decideHere([current().second]),
  r: () => decideHere(REJECT),
  e: () => edit(current()),
  u: () => current() && decide([[current(), UNDECIDED]], "song"),
  A: () => current() && acceptAlbum(current().album),
  z: takeBack,
  "/": () => $("find").focus(),
  w: () => !$("write-open").disabled && openWrite(),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  if (target.matches("input, select")) {
    if (key === "Escape" || (key === "Enter" && target.id === "find")) {
      event.preventDefault();
      moveTo(cursor);
    }
    return;
  }
  if (target.matches("button, a") && (key === " " || key === "Enter")) return;
  const action = KEYS[key] ?? KEYS[event.shiftKey ? key : key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".cancel")?.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => moveTo(cursor));
}
let filterTimer = 0;
$("find").addEventListener("input", () => (clearTimeout(filterTimer), (filterTimer = setTimeout(listSongs, 120))));
for (const name of ["state", "genre", "order"]) $(name).addEventListener("change", listSongs);
$("least").addEventListener("input", drawCounts);
$("accept-above").addEventListener("click", () => {
  const found = sureOnes();
  decide(found.map((song) => [song, ACCEPT]), "bulk");
  say(`Accepted: ${counted(found.length, "song")}.`);
});
$("show-all").addEventListener("click", () => {
  Object.assign($("find"), { value: "" });
  Object.assign($("state"), { value: "all" });
  Object.assign($("genre"), { value: "" });
  listSongs();
});
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
$("play").addEventListener("click", () => playOrPause(playing));
$("seek").addEventListener("input", () => seekTo(Number($("seek").value)));
$("next-snippet").addEventListener("click", nextSnippet);
$("take-back").addEventListener("click", takeBack);
$("write-open").addEventListener("click", openWrite);
for (const name of ["help-open", "more"]) $(name).addEventListener("click", () => $("help").showModal());
$("close-review").addEventListener("click", closeReview);
addEventListener("scroll", drawSoon, { passive: true });
addEventListener("resize", () => {
  measure();
  for (const [place, row] of drawn) row.style.transform = `translateY(${tops[place]}px)`;
  drawRows();
});
addEventListener("beforeunload", (event) => unsaved.length && event.preventDefault());
document.addEventListener("visibilitychange", () => document.hidden || hearNews());

async function start() {
  let found;
  try {
    found = await ask("/songs");
  } catch (error) {
    return trouble(error.message);
  }
  ({ albums, genres } = found);
  songs = found.songs.map(songOf);
  const named = new Set(songs.flatMap(({ old, proposed }) => [...old, ...proposed]));
  $("genre").append(...[...named].sort(collator.compare).map((genre) => new Option(genre, genre)));
  takeState(found);
  listSongs();
  if (cursor >= 0) moveTo(cursor);
  document.documentElement.dataset.ready = "";
  setTimeout(listen, POLL_MS);
}

start();
