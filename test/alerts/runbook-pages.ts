import { readdir, readFile } from 'node:fs/promises'

const folder = new URL('../../docs/runbooks/', import.meta.url)

export interface Page {
  /** Name of the file, without `.md`. */
  readonly name: string
  readonly text: string
}

/** Every page of docs/runbooks, the list of them (`README`) among them. */
export async function runbooks(): Promise<readonly Page[]> {
  const files = (await readdir(folder)).sort()
  return Promise.all(
    files.map(async (file) => ({
      name: file.replace(/\.md$/, ''),
      text: await readFile(new URL(file, folder), 'utf8'),
    })),
  )
}

/** The lines of blocks of shell, and what stands between backticks. */
export function codeOf(text: string): readonly string[] {
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = '']) => block.split('\n'))
  const rest = text.replaceAll(/^```.*?^```$/gms, '')
  return [...blocks, ...[...rest.matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)]
}

/** The commands of a line of shell, each as its words: enough of the shell for quotes, comments, pipes and `;`. */
export function wordsOf(line: string): readonly (readonly string[])[] {
  const all: string[][] = [[]]
  for (const [, quoted, double, plain, end] of line.matchAll(
    /'([^']*)'|"([^"]*)"|([^\s'"|;&#]\S*|&(?!&)\S+)|(#|\||;|&&)/g,
  )) {
    if (end === '#') break
    const word = quoted ?? double ?? plain
    if (word === undefined) all.push([])
    else all.at(-1)?.push(word)
  }
  return all.filter((words) => words.length > 0)
}

/** The SQL that pages give to psql, whatever the page. */
export async function sqlOf(): Promise<readonly string[]> {
  const commands = (await runbooks()).flatMap(({ text }) => codeOf(text).flatMap(wordsOf))
  return commands.flatMap((words) => (words[0] === 'psql' ? [words[words.indexOf('-c') + 1] ?? ''] : []))
}
