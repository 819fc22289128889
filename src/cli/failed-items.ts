import type { RunItem } from '../runner/job.ts'
import { errorText } from './error-text.ts'
import { printable } from './format.ts'

/** What failed of a run, each failure once, with all that it befell. */
export function failedItemsText(items: readonly RunItem[]): string {
  const befell = new Map<string, string[]>()
  for (const { outcome, database, backupType, repository, failure } of items) {
    if (outcome !== 'failed') continue
    const text = errorText(failure)
    const name = database === '' ? backupType : printable(database)
    const names = befell.get(text) ?? []
    befell.set(text, names)
    const what = `${name}${repository === undefined ? '' : ` in ${repository}`}`
    if (!names.includes(what)) names.push(what)
  }
  return [...befell].map(([text, names]) => `${names.join(', ')}: ${text}`).join('')
}
