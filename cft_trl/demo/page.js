() => {
  // What the framework leaves out for screen readers: the status lines and answers are announced when they change,
  // an answer only once it is whole.
  const mark = () => {
    for (const line of document.querySelectorAll(".block.cft-status")) {
      line.setAttribute("role", "status");
      line.setAttribute("aria-live", "polite");
    }
    for (const out of document.querySelectorAll(".block.cft-out")) {
      const name = out.id.startsWith("critique") ? "Critique" : out.id === "compare-base" ? "Base model's text"
        : out.id === "compare-cft" ? "CFT model's text" : "Answer";
      out.setAttribute("role", "region");
      out.setAttribute("aria-label", name);
      out.setAttribute("aria-live", "polite");
      out.setAttribute("aria-busy", out.querySelector(".caret, .waiting") ? "true" : "false");
    }
  };
  mark();
  new MutationObserver(mark).observe(document.body, { childList: true, subtree: true });
}
