/** What a sensor sent, for a terminal: it must not move the cursor or ring the bell by itself. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly those
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "·");
}
