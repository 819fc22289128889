import type { DrillOrigin } from '../domain/alert-drill.ts'

/** How it is tried whether alerts arrive. */
export interface AlertDrillConfig {
  /** None: there are no drills. */
  readonly alertmanagers: readonly AlertServer[]
  /** Null: it is not asked. */
  readonly prometheus: AlertServer | null
  readonly from: DrillOrigin
  /** The receiver that must have it; null: whichever sends it back. */
  readonly receiver: string | null
  readonly prometheusMs: number
  readonly alertmanagerMs: number
  readonly receiverMs: number
  readonly resolvedMs: number
  /** For one request. */
  readonly requestMs: number
}

/** Prometheus or Alertmanager. */
export interface AlertServer {
  /** Without a slash at the end. */
  readonly url: string
  /** Secret; read at each drill. */
  readonly headers: () => Promise<Readonly<Record<string, string>>>
  /** PEM; null: those that Node knows. */
  readonly authorities: () => Promise<string | null>
}
