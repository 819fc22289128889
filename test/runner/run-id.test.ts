import t from 'tap'
import { isRunId, newRunId } from '../../src/runner/run-id.ts'

await t.test('run ids', async (t) => {
  const at = new Date('2026-03-01T23:59:59.999-05:00')
  t.match(
    newRunId(at, 'restore', () => false),
    /^20260302T045959Z-restore-[0-9a-f]{6}$/,
  )
  const drawn = ['aaaaaa', 'aaaaaa', 'bbbbbb']
  const taken = new Set(['20260302T045959Z-dump-aaaaaa'])
  const id = newRunId(
    at,
    'dump',
    (candidate) => taken.has(candidate),
    () => drawn.shift() ?? 'cccccc',
  )
  t.equal(id, '20260302T045959Z-dump-bbbbbb', 'a taken one is drawn again')
  t.ok(isRunId(id))
  for (const text of ['', '../x', `${id}\n`, `${id}0`, 'x'.repeat(1e6), '20260302T045959Z--aaaaaa', id.toUpperCase()]) {
    t.notOk(isRunId(text))
  }
})
