/** Text from elsewhere, for a terminal: it must not move the cursor or ring the bell by itself. */
export function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, "·");
}
