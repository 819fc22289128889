import t from 'tap'
import { ClockGuard } from '../../src/runner/clock-guard.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { history } from './support.ts'

const none = () => []
const dayMs = 86_400_000

t.test('what the clock has shown is remembered beyond a restart', async (t) => {
  const directory = t.testdir({})
  const clock = new FakeClock('2026-06-15T05:00:00Z')
  const first = history(directory, clock)
  const guard = new ClockGuard({ clock, facts: first })
  t.equal(guard.doubt(none), null)
  t.equal(first.fact('clock-noted'), null, 'a doubt alone notes nothing')
  for (let minute = 0; minute < 3; minute += 1) {
    t.equal(guard.look(none), null)
    await clock.advance(60_000)
  }
  first.close()

  const second = history(directory, clock)
  t.teardown(() => second.close())
  const next = new ClockGuard({ clock, facts: second })
  clock.jump('2026-06-15T04:00:00Z')
  t.match(next.look(none), { cause: 'clock-back' })
  t.match(next.look(none), { cause: 'clock-back' }, 'what is in doubt is not noted')
  await clock.advance(3_600_000)
  t.equal(next.look(none), null, 'it heals when the time is reached again')

  clock.jump('2027-06-15T05:00:00Z')
  for (let days = 0; days < 30; days += 1) {
    await clock.advance(dayMs)
    const since = () => Array.from({ length: days }, (_, index) => new Date(clock.now().getTime() - index * dayMs))
    t.match(next.look(since), { cause: 'clock-forward' }, 'a month of backups by the wrong clock heals nothing')
  }
  next.confirm()
  t.equal(next.look(none), null)
  clock.jump('2026-06-16T05:00:00Z')
  t.match(next.doubt(none), { cause: 'clock-back' }, 'it was not right after all')

  second.keepFact('clock-noted', 'nonsense')
  t.match(next.doubt(none), { cause: 'clock-unknown', message: /"nonsense" is not a time/, hint: /--confirm-clock/ })
  next.confirm()
  t.equal(next.doubt(none), null)
})
