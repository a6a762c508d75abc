// Signs of danger in a message, by the host's own rules: the model is not asked then.

/** A function that says whether a message shows signs; throws where the browser cannot read the rules. */
export function signsOf(crisis) {
  const signs = crisis.signs.map((pattern) => new RegExp(pattern, "i"));
  const harmless = crisis.harmless.map((pattern) => new RegExp(pattern, "gi"));
  return (said) => {
    let text = said.replaceAll("’", "'");
    for (const pattern of harmless) text = text.replace(pattern, " … ");
    return signs.some((pattern) => pattern.test(text));
  };
}
