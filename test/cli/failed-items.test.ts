import t from 'tap'
import { failedItemsText } from '../../src/cli/failed-items.ts'
import type { RunItem } from '../../src/runner/job.ts'

t.test('a failure is told once, with all that it befell', async (t) => {
  const failure = (message: string) => ({ code: 'server-unreachable' as const, message, hint: 'look at the server' })
  const item = (database: string, fields: Partial<RunItem> = {}): RunItem => ({
    ...{ outcome: 'failed', backupType: 'dump', database, finishedAt: '2026-03-01T00:00:00Z' },
    ...fields,
  })
  const lost = failure('the server has gone')
  const items = [
    item('app', { failure: lost }),
    item('good', { outcome: 'succeeded', repository: 'one', backupId: 'x' }),
    item('crm\n\u001b[31m', { failure: lost }),
    item('app', { failure: lost }),
    item('', { backupType: 'full', repository: 'two', failure: failure('no room') }),
  ]
  t.equal(
    failedItemsText(items),
    'app, "crm\\n\\u001b[31m": the server has gone\nHINT: look at the server\n' +
      'full in two: no room\nHINT: look at the server\n',
  )
  t.equal(failedItemsText(items.slice(1, 2)), '')
})
