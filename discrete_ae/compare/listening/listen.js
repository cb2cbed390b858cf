"use strict";

/* From the start through the trials to the result. */
{
  const part = (id) => document.getElementById(id);
  let context = null;
  const player = new BlindPlayer(() => (context ??= new AudioContext()));
  const view = new TrialView(player);
  let session = null;
  let number = 0; // of the trial from 1 on; 0 for practice
  let unsaved = false;

  const say = (message) => {
    part("alert").textContent = message;
    part("alert").hidden = !message;
  };

  const ask = async (path, options) => {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("the program does not answer: is it still running in the terminal?");
    }
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer;
  };

  /* Do what a button asks for; meanwhile it cannot be pressed again, and what goes wrong is said. */
  const during = async (button, task) => {
    if (button.disabled) return;
    button.disabled = true;
    try {
      await task();
      say("");
    } catch (error) {
      say(`This did not work: ${error.message}`);
    }
    button.disabled = false;
    update();
  };

  const screen = (id) => {
    for (const name of ["start", "trial", "result"]) part(name).hidden = name !== id;
  };

  const fetched = async (keys) => {
    const files = await Promise.all(keys.map(async (key) => (await ask(`sounds/${key}`)).arrayBuffer()));
    return new Map(keys.map((key, i) => [key, files[i]]));
  };

  const enter = async (next) => {
    const trial = next ? session.trials[next - 1] : session.practice;
    const keys = [trial.reference, ...trial.conditions];
    player.current = null;
    await player.load(await fetched(keys));
    number = next;
    unsaved = false;
    part("trial-heading").textContent = next ? `Recording ${next} of ${session.trials.length}` : "Practice, not saved";
    part("progress").max = session.trials.length;
    part("progress").value = session.done.length;
    part("comment").value = "";
    part("next").textContent = !next ? "End practice" : next === session.trials.length ? "Save and finish" : "Save, next recording";
    screen("trial");
    view.begin(keys);
    part("trial-heading").focus();
  };

  const todo = () => session.trials.findIndex((_, i) => !session.done.includes(i + 1)) + 1;

  const welcome = () => {
    const versions = session.practice.conditions.length;
    const trials = session.trials.length;
    part("extent").textContent =
      `You will hear ${trials} ${trials > 1 ? "recordings" : "recording"}, each in ${versions} versions under numbers ` +
      "that mean something else every time, and rate them beside the reference.";
    part("begin").textContent = session.done.length ? `Go on with recording ${todo()} of ${trials}` : "Begin";
    screen("start");
  };

  const finish = async () => {
    showResult(await (await ask("result")).json());
    screen("result");
    part("result-heading").focus();
  };

  const save = async () => {
    const content = { trial: number, ratings: view.ratings, comment: part("comment").value, listener: part("listener").value };
    await ask("ratings", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });
    unsaved = false;
    session.done.push(number);
  };

  const next = async () => {
    player.pause();
    if (!number) return welcome();
    if (!session.done.includes(number)) await save();
    return todo() ? enter(todo()) : finish();
  };

  const update = () => {
    const missing = view.missing;
    part("next").disabled = Boolean(number) && missing.length > 0;
    part("missing").textContent = missing.length ? `still to be rated: ${missing.join(", ")}` : "";
  };
  view.onrated = () => {
    unsaved = Boolean(number) && view.missing.length < view.ratings.length;
    update();
  };

  const level = async () => {
    if (player.playing) return player.pause();
    const key = session.practice.reference;
    if (!player.buffers.has(key)) await player.load(await fetched([key]));
    player.loop = true;
    return player.play(key);
  };

  part("level").addEventListener("click", () => during(part("level"), level));
  part("practice").addEventListener("click", () => during(part("practice"), () => enter(0)));
  part("begin").addEventListener("click", () => during(part("begin"), () => (todo() ? enter(todo()) : finish())));
  part("next").addEventListener("click", () => during(part("next"), next));
  const shown = player.onchange;
  player.onchange = () => {
    shown();
    part("level").setAttribute("aria-pressed", player.playing);
    part("level").textContent = player.playing ? "Pause" : "Play a recording";
  };

  const CODES = ["Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0", "Minus", "Equal"];
  addEventListener("keydown", (event) => {
    if (part("trial").hidden || event.ctrlKey || event.altKey || event.metaKey || event.target.type === "text") return;
    const version = CODES.indexOf(event.code.replace("Numpad", "Digit"));
    if (version >= 0) view.listen(version + 1);
    else if (event.key === "r" || event.key === "R") view.listen(0);
    else if (event.repeat) return;
    else if (event.key === "n" || event.key === "N") part("next").click();
    else if (event.key === "l" || event.key === "L") view.toggleLoop();
    else if (event.key === " " && event.target.tagName !== "BUTTON") view.toggle();
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => unsaved && event.preventDefault());

  (async () => {
    try {
      session = await (await ask("session")).json();
      part("listener").value = session.listener;
      part("listener").parentElement.hidden = Boolean(session.listener);
      welcome();
    } catch (error) {
      say(`The test cannot begin: ${error.message}`);
    }
  })();
}
