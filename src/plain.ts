/** Text from elsewhere, for a terminal: it must not move the cursor or ring the bell by itself. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it takes out
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "·");
}
