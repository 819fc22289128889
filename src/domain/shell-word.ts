/** One word for a shell. */
export function shellWord(text: string): string {
  return /^[\w@+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** One word in a command of PostgreSQL's settings (archive_command, restore_command), which replace what follows a percent sign. */
export function commandWord(text: string): string {
  return shellWord(text).replaceAll('%', '%%')
}
