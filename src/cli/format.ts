/** Bytes for people: `0 B`, `1.4 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** Seconds for people: `0.4 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  // Rounded first, or there would be 60 seconds in a minute.
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A moment for people, UTC, to the second. */
export function formatTime(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace('T', ' ')}Z`
}

/** A name from PostgreSQL, safe for a terminal: anything that could move the cursor or end the line is escaped. */
export function printable(name: string): string {
  return /^[\p{L}\p{N}_.@$+-]+$/u.test(name)
    ? name
    : JSON.stringify(name).replace(
        /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
        (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
      )
}

/** A text of several lines, safe for a terminal: no character is left that moves the cursor or turns the direction. */
export function withoutControls(text: string): string {
  return text.replace(/[^\P{Cc}\n]|\p{Cf}/gu, '?')
}

/** A text on one line, safe for a terminal. */
export function oneLine(text: string): string {
  return withoutControls(text).replaceAll('\n', ' ')
}

/** Columns as wide as their widest cell, two blanks between them. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length)
  }
  return rows
    .map(
      (row) =>
        `${row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0))).join('  ')}\n`,
    )
    .join('')
}
