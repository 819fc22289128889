/** What PostgreSQL puts in quotes and is a name, by the word before it; anything else that it quotes may be of a row. */
const named =
  '(?:relation|table|column|constraint|index|database|role|user|schema|type|function|procedure|sequence|extension|encoding|view|tablespace|publication|subscription|trigger|policy|parameter|language|collation|domain|operator|file|directory|program|server|library|host|socket|slot|at)'

const quoted = new RegExp(`(\\b${named}s? )?"(?:[^"]|"")*"?`, 'gi')

/** PostgreSQL speaks from here on: a program of its, or the server. */
const spoken = /(?:\b(?:ERROR|FATAL|PANIC|WARNING):|\bpg_\w+: |\bpsql: )/

/** These lines of a message hold rows, statements, or what somebody's function says. */
const telling = /\b(?:DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d+|Command was|Failing row contains)\b[\s\S]*$/

/**
 * A failure's message for those outside, who may know that a restore fails, and not what is in the rows: of what PostgreSQL says
 * the names stay, and what else it quotes goes. In the log and in the run it is whole.
 *
 * @param isSpoken all of it are PostgreSQL's words
 */
export function withoutData(message: string, isSpoken: boolean): string {
  const at = isSpoken ? 0 : message.search(spoken)
  if (at < 0) return message
  const words = message.slice(at).replace(telling, '…')
  return message.slice(0, at) + words.replaceAll(quoted, (all, name?: string) => (name === undefined ? '"…"' : all))
}
