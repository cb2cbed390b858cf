"use strict";

/* The listening grid: a row for every clip, a button for every version of it, and a bar with what plays. */
let audioContext = null;
const player = new ClipPlayer(() => (audioContext ??= new AudioContext()));

{
  const grid = document.querySelector("[role=grid]");
  const bar = document.querySelector(".transport");
  const part = (name) => bar.querySelector(`[data-part=${name}]`);
  const [toggle, slider, loop] = [part("toggle"), part("position"), part("loop")];
  const rows = [...grid.querySelectorAll("tbody [role=row]")];
  const buttonsOf = (row) => [...row.querySelectorAll("button[data-version]")];
  const buttonOf = (row, key) => buttonsOf(row).find((button) => button.dataset.version === key);
  const seconds = (value) => value.toFixed(1);

  let clip = null; // the row whose clip is loaded, or is being loaded
  let wanted = null; // while it is being loaded: what to play then
  let said = "";

  const bytes = (text) => Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0)).buffer;
  const files = (row) =>
    new Map(buttonsOf(row).map((b) => [b.dataset.version, bytes(document.getElementById(b.dataset.audio).textContent)]));

  const announce = (text) => {
    if (text !== said) part("status").textContent = said = text;
  };

  /* Play a version of a clip; where the clip plays already, from the same position on. */
  const choose = async (row, key, offset = null) => {
    if (row === clip && !wanted) return player.play(key, offset);
    wanted = { key, offset };
    if (row === clip) return show();
    clip = row;
    show();
    try {
      if (!(await player.load(files(row)))) return;
      const { key, offset } = wanted;
      wanted = null;
      player.play(key, offset ?? 0);
    } catch (error) {
      if (row !== clip) return;
      clip = wanted = null;
      show();
      announce(`This clip does not play: ${error.message}`);
    }
  };

  const stop = () => {
    player.pause();
    player.seek(0);
  };

  let frames = 0;
  const follow = () => {
    cancelAnimationFrame(frames);
    move();
    if (player.playing) frames = requestAnimationFrame(follow);
  };

  const move = () => {
    if (!clip || wanted) return;
    const { position, duration } = player;
    clip.style.setProperty("--position", duration ? position / duration : 0);
    slider.value = position;
    part("time").textContent = `${seconds(position)} / ${seconds(duration)} s`;
    const text = `${Math.floor(position)} of ${seconds(duration)} seconds`;
    if (slider.getAttribute("aria-valuetext") !== text) slider.setAttribute("aria-valuetext", text);
  };

  const show = () => {
    const heard = wanted?.key ?? player.current;
    for (const row of rows) {
      row.classList.toggle("loaded", row === clip);
      for (const button of buttonsOf(row)) {
        const chosen = row === clip && button.dataset.version === heard;
        button.setAttribute("aria-pressed", chosen && (player.playing || wanted !== null));
        const shown = clip === row ? chosen : button.parentElement.classList.contains("chosen");
        button.parentElement.classList.toggle("chosen", shown);
      }
    }
    bar.hidden = clip === null;
    document.body.classList.toggle("with-transport", clip !== null);
    loop.setAttribute("aria-pressed", player.loop);
    if (!clip) return;
    toggle.textContent = player.playing ? "Pause" : "Play";
    slider.max = player.duration || 1;
    const version = buttonOf(clip, heard).dataset.label;
    part("clip").textContent = clip.dataset.clip;
    part("version").textContent = version;
    announce(wanted ? "Loading" : `${player.playing ? "Playing" : "Paused"}: ${clip.dataset.clip}, ${version}`);
    move();
  };

  player.onchange = () => {
    show();
    follow();
  };

  const focus = (button) => {
    for (const other of grid.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  grid.addEventListener("click", (event) => {
    const row = event.target.closest("[role=row]");
    const button = event.target.closest("[role=gridcell]")?.querySelector("button");
    if (!button) return;
    const key = button.dataset.version;
    const picture = event.target.closest(".spectrogram");
    focus(button); // Safari does not focus what is clicked
    if (picture) {
      const { left, width } = picture.getBoundingClientRect();
      choose(row, key, ((event.clientX - left) / width) * Number(row.dataset.duration));
    } else if (event.target.closest("button")) {
      if (row === clip && player.playing && player.current === key) player.pause();
      else choose(row, key);
    }
  });

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  STEPS.Home = [0, -Infinity];
  STEPS.End = [0, Infinity];

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
    // Along the clip that plays, what is heard follows.
    if (row === from && row === clip && player.playing) player.switchTo(next.dataset.version);
  });

  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const here = target === document.body || bar.contains(target) || grid.contains(target);
    if (!here || !clip || wanted || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^[0-9]$/.test(key)) {
      const button = buttonsOf(clip)[(Number(key) + 9) % 10];
      if (!button) return;
      if (grid.contains(target)) focus(button);
      player.switchTo(button.dataset.version);
    } else if (key === "l" || key === "L") player.loop = !player.loop;
    else if (key === "Escape") stop();
    else if (key === " " && target === document.body) {
      event.preventDefault(); // of scrolling
      toggle.click();
    }
  });

  toggle.addEventListener("click", () => {
    if (wanted) return;
    if (player.playing) player.pause();
    else player.play();
  });
  loop.addEventListener("click", () => {
    player.loop = !player.loop;
  });
  slider.addEventListener("input", () => player.seek(Number(slider.value)));
}
