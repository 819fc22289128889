import { extname } from 'node:path'

/*
 * What is built is a few files made of many modules (docs/decisions/0036): only this one, which stands in the topmost directory
 * in either form, knows where others are.
 */

/** A module of ours, which a thread or another process runs; `path` is below src, without extension. */
export function scriptUrl(path: string): URL {
  return new URL(`./${path}${extname(import.meta.filename)}`, import.meta.url)
}

/** The programs that PostgreSQL itself starts, plain shell. */
export const programsUrl = new URL('./wal', import.meta.url)

export const packageUrl = new URL('../package.json', import.meta.url)
