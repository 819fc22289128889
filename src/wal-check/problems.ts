import { type WalPageProblem, walPageProblems } from '../domain/wal-page.ts'

/** Why a stored file of WAL is not what its name says. The words are for programs and do not change. */
export const walProblems = {
  ...walPageProblems,
  'not-zstd': 'it is not compressed with zstd',
  'cut-off': 'it is cut off',
  damaged: 'it cannot be decompressed, or decrypted',
  'too-long': 'it is longer than a segment',
  'other-content': 'its bytes are not those that were stored: the SHA-256 is not the one in its name',
  'bad-page': 'a page in it is not the one of its place',
  'zero-page': 'a part of it is zeros',
  'bad-record': 'its records cannot be read',
  'two-contents': 'two files of different content are stored of it',
  'impossible-name': 'there is no such segment where segments have this size',
  unreadable: 'the storage cannot read it',
  'bad-history': 'it is no timeline history',
} as const satisfies Readonly<Record<string, string>> & Readonly<Record<WalPageProblem, string>>

export type WalProblem = keyof typeof walProblems

/** What is wrong with one file; `detail` is a sentence for people. */
export interface FoundProblem {
  readonly problem: WalProblem
  readonly detail: string
}

export function found(problem: WalProblem, more = ''): FoundProblem {
  return { problem, detail: more === '' ? walProblems[problem] : `${walProblems[problem]} (${more})` }
}

/** What to do about a file that is bad. */
export function remedyFor(problem: string): string {
  switch (problem) {
    case 'foreign':
    case 'other-size':
      return 'another server, or a restored copy, wrote here: give each its own cluster name'
    case 'two-contents':
      return 'find out which of the two is right (pg_waldump reads both; the archive or another repository may have it), and remove the other'
    case 'bad-record':
    case 'bad-page':
    case 'zero-page':
      return 'it was so when it was stored: if the server or another copy has it whole, replace it; otherwise take a new base backup'
    case 'unreadable':
      return 'look at the disk, then verify again'
    case 'bad-history':
      return 'replace it by the one in the pg_wal of the server or in another repository'
    default:
      return 'remove it from the repository, so that it is stored again from the archive, or copied from another repository; where it is nowhere, take a new base backup'
  }
}
