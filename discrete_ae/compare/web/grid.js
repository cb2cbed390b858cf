"use strict";

const player = new ClipPlayer();

/* The clips: the name of each and, by key, the elements with its versions and anchors. */
const clips = [...document.querySelectorAll("[data-clip]")].map(({ dataset }) => ({ name: dataset.clip, sounds: new Map() }));
for (const element of document.querySelectorAll("script[data-of]"))
  clips[element.dataset.of].sounds.set(element.dataset.key, element);

const bytes = (element) => Uint8Array.from(atob(element.textContent), (character) => character.charCodeAt(0)).buffer;

/* The player's bar, and the keys common to the report and the blind test. `view` is the one that is visible: it names
   and shows what plays, and returns whether it handles a key. */
const transport = { view: null };
{
  const bar = document.querySelector(".transport");
  const part = (name) => bar.querySelector(`[data-part=${name}]`);
  const [toggle, slider, loop, status] = ["toggle", "position", "loop", "status"].map(part);
  const seconds = (value) => value.toFixed(1);
  let frames = 0;

  const follow = () => {
    cancelAnimationFrame(frames);
    const { position, duration, playing } = player;
    document.documentElement.style.setProperty("--position", duration ? position / duration : 0);
    slider.value = position;
    part("time").textContent = `${seconds(position)} / ${seconds(duration)} s`;
    slider.setAttribute("aria-valuetext", `${Math.floor(position)} of ${seconds(duration)} seconds`);
    if (playing) frames = requestAnimationFrame(follow);
  };

  player.onchange = (problem) => {
    bar.hidden = !player.clip && !problem;
    document.body.classList.toggle("with-transport", !bar.hidden);
    toggle.textContent = player.playing ? "Pause" : "Play";
    loop.setAttribute("aria-pressed", player.looping);
    slider.max = player.duration || 1;
    const key = player.wanted?.key ?? player.current;
    const [clip, version] = player.clip ? transport.view.names(key) : ["", problem?.message];
    part("clip").textContent = clip;
    part("version").textContent = version;
    const state = player.wanted ? "Loading" : player.playing ? "Playing" : "Paused";
    const text = problem?.message ?? (player.clip ? `${state}: ${clip}, ${version}` : "");
    if (text !== status.textContent) status.textContent = text; // screen readers announce changes
    transport.view.show(key);
    follow();
  };

  transport.toggle = () => {
    if (player.wanted || !player.clip) return;
    if (player.playing) player.pause();
    else player.play();
  };

  toggle.addEventListener("click", transport.toggle);
  loop.addEventListener("click", () => player.repeat(!player.looping));
  slider.addEventListener("input", () => player.seek(Number(slider.value)));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !transport.view.hears(event)) return;
    if (event.key === "l" || event.key === "L") player.repeat(!player.looping);
    else if (event.key === "Escape") {
      player.pause();
      player.seek(0);
    } else if (event.key === " " && event.target.tagName !== "BUTTON") transport.toggle();
    else return;
    event.preventDefault(); // no scrolling
  });
}

/* The listening grid: a row for each clip, a button for each of its versions. */
{
  const grid = document.querySelector("[role=grid]");
  const rows = [...grid.querySelectorAll("[role=row]")];
  const buttonsOf = (row) => [...row.querySelectorAll("button[data-version]")];
  const buttonOf = (row, key) => buttonsOf(row).find((button) => button.dataset.version === key);

  const choose = (row, key, offset = null) => {
    const keys = buttonsOf(row).map((button) => button.dataset.version);
    const { sounds } = clips[rows.indexOf(row)];
    player.listen(row, () => new Map(keys.map((key) => [key, bytes(sounds.get(key))])), key, offset);
  };

  const focus = (button) => {
    for (const other of grid.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  transport.report = transport.view = {
    names: (key) => [player.clip.dataset.clip, buttonOf(player.clip, key).dataset.label],

    show(key) {
      for (const row of rows) {
        row.classList.toggle("loaded", row === player.clip);
        for (const button of buttonsOf(row)) {
          const isHeard = row === player.clip && button.dataset.version === key;
          button.setAttribute("aria-pressed", isHeard && (player.playing || player.wanted !== null));
          if (row === player.clip) button.parentElement.classList.toggle("chosen", isHeard);
        }
      }
    },

    hears({ target, key }) {
      const isInGrid = grid.contains(target);
      if (!player.clip || player.wanted || !(target === document.body || target.closest("[role=grid], .transport"))) return false;
      const button = /^[0-9]$/.test(key) ? buttonsOf(player.clip)[(Number(key) + 9) % 10] : null;
      if (button && isInGrid) focus(button);
      if (button) player.switchTo(button.dataset.version);
      return true;
    },
  };

  grid.addEventListener("click", (event) => {
    const row = event.target.closest("[role=row]");
    const button = event.target.closest("[role=gridcell]")?.querySelector("button");
    if (!button) return;
    const key = button.dataset.version;
    const picture = event.target.closest(".spectrogram");
    focus(button); // Safari does not focus a clicked button
    if (picture) {
      const { left, width } = picture.getBoundingClientRect();
      choose(row, key, ((event.clientX - left) / width) * Number(row.dataset.duration));
    } else if (event.target.closest("button")) {
      if (row === player.clip && player.playing && player.current === key) player.pause();
      else choose(row, key);
    }
  });

  const ALONG = { ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] };
  const STEPS = { ...ALONG, ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  grid.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = event.target.closest("button[data-version]");
    if (!button) return;
    event.preventDefault();
    const from = button.closest("[role=row]");
    const [down, right] = STEPS[event.key];
    const row = rows[Math.min(Math.max(rows.indexOf(from) + down, 0), rows.length - 1)];
    const buttons = buttonsOf(row);
    const column = buttonsOf(from).indexOf(button) + right;
    const next = buttons[Math.min(Math.max(column, 0), buttons.length - 1)];
    focus(next);
    // Within the clip that plays, the sound follows the focus.
    if (row === from && row === player.clip && player.playing) player.switchTo(next.dataset.version);
  });
}
