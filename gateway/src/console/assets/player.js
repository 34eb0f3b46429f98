// Plays a session: its lines appear in their own time, faster if wanted; what lies ahead is pale.
"use strict";

const player = document.querySelector("[data-player]");
if (player) {
  const rows = [...document.querySelectorAll("tr[data-after]")];
  const find = (name) => player.querySelector(`[data-${name}]`);
  const [play, nextHold, speed, clock, timeline] = ["play", "next-hold", "speed", "clock", "timeline"].map(find);
  // Longer pauses are passed over.
  const LONGEST = 2000;
  let at = rows.length - 1;
  let timer = 0;

  const after = (place) => Number(rows[place].dataset.after);

  function show(place, scroll) {
    at = place;
    rows.forEach((row, number) => {
      row.classList.toggle("ahead", number > at);
      row.classList.toggle("here", number === at);
    });
    timeline.value = String(at);
    const seconds = Math.floor(after(at) / 1000);
    clock.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    timeline.setAttribute("aria-valuetext", `line ${at + 1} of ${rows.length}, at ${clock.textContent}`);
    if (scroll) rows[at].scrollIntoView({ block: "center" });
  }

  function pause() {
    clearTimeout(timer);
    timer = 0;
    play.textContent = "Play";
  }

  function step() {
    if (at >= rows.length - 1) return pause();
    const wait = Math.min(after(at + 1) - after(at), LONGEST) / Number(speed.value);
    timer = setTimeout(() => {
      show(at + 1, true);
      step();
    }, wait);
  }

  function toggle() {
    if (timer) return pause();
    if (at >= rows.length - 1) show(0, true);
    play.textContent = "Pause";
    step();
  }

  function toHold() {
    pause();
    const from = at >= rows.length - 1 ? -1 : at;
    const next = rows.findIndex((row, number) => number > from && row.dataset.hold);
    if (next >= 0) show(next, true);
  }

  play.addEventListener("click", toggle);
  nextHold.addEventListener("click", toHold);
  timeline.addEventListener("input", () => {
    pause();
    show(Number(timeline.value), true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, button, a")) return;
    if (event.key === " ") {
      event.preventDefault();
      toggle();
    }
    if (event.key === "n") toHold();
  });
}
