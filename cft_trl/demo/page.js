() => {
  // What the framework leaves out for screen readers: the status lines and answers are announced when they change,
  // an answer only once it is whole.
  const names = { "critique-view": "Critique", "compare-base": "Base model's text", "compare-cft": "CFT model's text",
    "browse-view": "Row" };
  const mark = () => {
    for (const line of document.querySelectorAll(".block.cft-status")) {
      line.setAttribute("role", "status");
      line.setAttribute("aria-live", "polite");
    }
    for (const out of document.querySelectorAll(".block.cft-out")) {
      out.setAttribute("role", "region");
      out.setAttribute("aria-label", names[out.id] ?? "Answer");
      out.setAttribute("aria-live", "polite");
      out.setAttribute("aria-busy", out.querySelector(".caret, .waiting") ? "true" : "false");
    }
  };
  mark();
  new MutationObserver(mark).observe(document.body, { childList: true, subtree: true });

  // A tab's button shows that it works from the moment it is pressed, and what it works on comes into view.
  const frame = document.querySelector("main.contain");
  document.getElementById("tabs").addEventListener("click", event => {
    if (event.target.closest("[role=tab]")) frame.style.minHeight = "";
  });
  window.cftBegin = tab => {
    const button = document.getElementById(`${tab}-run`), line = document.getElementById(`${tab}-status`);
    button.classList.add("working");
    button.setAttribute("aria-busy", "true");
    const phone = window.matchMedia("(max-width: 720px)").matches, top = line.getBoundingClientRect().top;
    if (top > 0 && top < (phone ? window.innerHeight / 3 : window.innerHeight - 160)) return;
    // As long as the answer is short the page would end too early to be scrolled so far.
    if (phone) frame.style.minHeight = `${top - frame.getBoundingClientRect().top + window.innerHeight - 24}px`;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    line.scrollIntoView({ block: phone ? "start" : "center", behavior: still ? "auto" : "smooth" });
  };
  window.cftEnd = tab => {
    const button = document.getElementById(`${tab}-run`);
    button.classList.remove("working");
    button.setAttribute("aria-busy", "false");
  };

  // The arrows of the keyboard go through the rows, as in `cft browse`.
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [role=tab]")) return;
    const button = document.getElementById({ ArrowLeft: "browse-back", ArrowRight: "browse-on" }[event.key] ?? "");
    if (button?.offsetParent) button.click();
  });
}
