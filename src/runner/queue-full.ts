import { LifeboatError } from '../domain/errors.ts'

/** Runs are cheap to ask for; without a limit a client that asks in a loop would keep a lane busy for days. */
export function queueFull(lane: string, limit: number): LifeboatError {
  return new LifeboatError('queue-full', `${limit} runs wait for the lane ${lane} already`, {
    hint: 'Wait for some to end, or cancel them: see /api/runs.',
  })
}
