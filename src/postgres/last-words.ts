/** The lines of stderr that say why: errors first, else the last line. At most three, in one line. */
export function lastWords(program: string, stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  const isError = (line: string) => /\b(error|fatal|panic)\b/i.test(line)
  // What goes on in further lines, as DETAIL and CONTEXT, may be a row, in which an "error" is none.
  const own = lines.filter((line) => line.startsWith(`${program}: `) && isError(line))
  const errors = own.length > 0 ? own : lines.filter(isError)
  // Our own commands say what to do behind what happened.
  const last = lines.at(-1)?.startsWith('HINT: ') === true ? lines.slice(-2) : lines.slice(-1)
  return (errors.length > 0 ? errors.slice(-3) : last).map((line) => line.trim().slice(0, 500)).join('; ')
}
