from tools.classroom.submissions import Submission


def look_at(submissions: list[Submission]) -> dict[Submission, list[str]]:
    return {s: [] for s in submissions}
